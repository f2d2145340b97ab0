// Package service is the order service without a process around it: the HTTP API, the handler that confirms orders, and the
// configuration of both. The local program, the Lambda functions and the worker are made of it. It must not know where it runs.
package service

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Role is what a process does.
type Role string

// The roles. Each is a program in cmd.
const (
	RoleAPI       Role = "api"       // answers HTTP requests
	RoleConsumer  Role = "consumer"  // confirms orders, invoked by Lambda
	RoleRedrive   Role = "redrive"   // handles dead letters that somebody asks for, invoked by Lambda on a schedule
	RoleReconcile Role = "reconcile" // finds events that no delivery has brought, invoked by Lambda on a schedule
	RoleWorker    Role = "worker"    // confirms orders, reads the stream itself
)

// Config names what the service uses. Credentials, Region and endpoints come from the SDK's own configuration.
type Config struct {
	OrdersTable      string
	EventsTable      string
	EventsStream     string
	InboxTable       string
	DeadLettersTable string
	LeasesTable      string
	Stack            string  // what is deployed together; it tells the metrics of two stacks apart
	MailFrom         string  // an address of a verified identity of SES
	MailRate         float64 // how many mails a second a process sends at most
}

// variable is an environment variable, who needs it, and what it sets.
type variable struct {
	name  string
	roles []Role
	set   func(*Config, string) error
}

// variables are all environment variables that the service reads by itself.
func variables() []variable {
	confirming := []Role{RoleConsumer, RoleRedrive, RoleReconcile, RoleWorker}
	text := func(field func(*Config) *string) func(*Config, string) error {
		return func(c *Config, v string) error { *field(c) = v; return nil }
	}
	return []variable{
		{"ORDERS_TABLE", []Role{RoleAPI}, text(func(c *Config) *string { return &c.OrdersTable })},
		{"EVENTS_TABLE", append([]Role{RoleAPI}, confirming...), text(func(c *Config) *string { return &c.EventsTable })},
		{"EVENTS_STREAM", []Role{RoleRedrive, RoleWorker}, text(func(c *Config) *string { return &c.EventsStream })},
		{"INBOX_TABLE", confirming, text(func(c *Config) *string { return &c.InboxTable })},
		{"DEAD_LETTERS_TABLE", confirming, text(func(c *Config) *string { return &c.DeadLettersTable })},
		{"LEASES_TABLE", []Role{RoleWorker}, text(func(c *Config) *string { return &c.LeasesTable })},
		{"STACK", confirming, text(func(c *Config) *string { return &c.Stack })},
		{"MAIL_FROM", confirming, text(func(c *Config) *string { return &c.MailFrom })},
		{"MAIL_RATE", confirming, func(c *Config, v string) (err error) {
			if c.MailRate, err = strconv.ParseFloat(v, 64); err != nil {
				return fmt.Errorf("environment variable MAIL_RATE is %q: want how many mails a second, such as 14 or 0.5", v)
			}
			return nil
		}},
	}
}

// Variables returns the names of the environment variables that a role needs.
func Variables(role Role) (names []string) {
	for _, v := range variables() {
		if slices.Contains(v.roles, role) {
			names = append(names, v.name)
		}
	}
	return names
}

// FromEnvironment reads the configuration of a role, usually with os.Getenv. The error names every variable that is not set, or is wrong.
func FromEnvironment(role Role, getenv func(string) string) (c Config, err error) {
	for _, v := range variables() {
		if !slices.Contains(v.roles, role) {
			continue
		}
		value := getenv(v.name)
		if value == "" {
			err = errors.Join(err, fmt.Errorf("environment variable %s is not set", v.name))
			continue
		}
		err = errors.Join(err, v.set(&c, value))
	}
	return c, err
}
