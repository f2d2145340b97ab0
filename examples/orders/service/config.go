// Package service is the order service without a process around it: the HTTP API, the handler that confirms orders, and the
// configuration of both. The local program, the Lambda functions and the worker are made of it. It must not know where it runs.
package service

import (
	"errors"
	"fmt"
	"slices"
)

// Role is what a process does.
type Role string

// The roles. Each is a program in cmd.
const (
	RoleAPI      Role = "api"      // answers HTTP requests
	RoleConsumer Role = "consumer" // confirms orders, invoked by Lambda
	RoleRedrive  Role = "redrive"  // handles dead letters that somebody asks for, invoked by Lambda on a schedule
	RoleWorker   Role = "worker"   // confirms orders, reads the stream itself
)

// Config names what the service uses. Credentials, Region and endpoints come from the SDK's own configuration.
type Config struct {
	OrdersTable      string
	EventsTable      string
	EventsStream     string
	InboxTable       string
	DeadLettersTable string
	LeasesTable      string
	MailFrom         string // an address of a verified identity of SES
}

// variable is an environment variable, who needs it, and what it sets.
type variable struct {
	name  string
	roles []Role
	set   func(*Config, string)
}

// variables are all environment variables that the service reads by itself.
func variables() []variable {
	confirming := []Role{RoleConsumer, RoleRedrive, RoleWorker}
	return []variable{
		{"ORDERS_TABLE", []Role{RoleAPI}, func(c *Config, v string) { c.OrdersTable = v }},
		{"EVENTS_TABLE", []Role{RoleAPI, RoleConsumer, RoleRedrive, RoleWorker}, func(c *Config, v string) { c.EventsTable = v }},
		{"EVENTS_STREAM", []Role{RoleWorker}, func(c *Config, v string) { c.EventsStream = v }},
		{"INBOX_TABLE", confirming, func(c *Config, v string) { c.InboxTable = v }},
		{"DEAD_LETTERS_TABLE", confirming, func(c *Config, v string) { c.DeadLettersTable = v }},
		{"LEASES_TABLE", []Role{RoleWorker}, func(c *Config, v string) { c.LeasesTable = v }},
		{"MAIL_FROM", confirming, func(c *Config, v string) { c.MailFrom = v }},
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

// FromEnvironment reads the configuration of a role, usually with os.Getenv. The error names every variable that is not set.
func FromEnvironment(role Role, getenv func(string) string) (c Config, err error) {
	for _, v := range variables() {
		if !slices.Contains(v.roles, role) {
			continue
		}
		value := getenv(v.name)
		if value == "" {
			err = errors.Join(err, fmt.Errorf("environment variable %s is not set", v.name))
		}
		v.set(&c, value)
	}
	return c, err
}
