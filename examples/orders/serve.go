package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/seed-1b628d3f/outbox"
	"github.com/seed-1b628d3f/outbox/examples/orders/service"
)

// newAPI builds the HTTP side, with the confirmations of this process at /mails, if wanted.
func newAPI(client *dynamodb.Client, mails *mailbox, showMails bool, opts ...outbox.WriterOption) (http.Handler, error) {
	handler, err := service.NewAPI(client, service.Config{OrdersTable: ordersTable, EventsTable: eventsTable}, opts...)
	if err != nil || !showMails {
		return handler, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	service.Handle(mux, "GET /mails", func(w http.ResponseWriter, _ *http.Request) {
		service.Answer(w, http.StatusOK, mails.latest(mailsShown))
	})
	return mux, nil
}

// guarded is what stands before every handler. A service that all may reach has names that it does not know.
func guarded(set settings, at net.Addr, handler http.Handler) http.Handler {
	if to, ok := at.(*net.TCPAddr); !set.aws || ok && to.IP.IsLoopback() {
		handler = onlyOwnHosts(hostOf(set.addr), handler)
	}
	return service.OnlyCleanPaths(handler)
}

// onlyOwnHosts refuses requests whose Host is another name than the service's own. A browser sends such a name for a page of another site
// whose name was made to lead here (DNS rebinding), and the browser takes the service for a part of that site.
func onlyOwnHosts(own string, next http.Handler) http.Handler {
	machine, _ := os.Hostname() // without it there is a name less
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r.Host)
		_, err := netip.ParseAddr(host)
		if err != nil && host != "localhost" && (host == "" || host != own && !strings.EqualFold(host, machine)) {
			service.Answer(w, http.StatusMisdirectedRequest, service.Problem{Error: "the Host is not this service: ask for localhost, or for an IP address"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostOf is the name or IP address in a Host, or in an address to listen on.
func hostOf(hostport string) string {
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
}

// serve answers requests until ctx ends, and then lets the ones under way finish. Who sends or takes an answer too slowly is cut off; the
// page's stream of steps has time limits of its own.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 45 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10, DisableGeneralOptionsHandler: true,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	slog.Info("draining; interrupt once more to end at once")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := server.Shutdown(drain)
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
