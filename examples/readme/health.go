package main

import (
	"net/http"

	"github.com/seed-1b628d3f/outbox"
)

// probes are what a platform asks a process with a Worker.
func probes(worker *outbox.Worker) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {}) // whoever answers lives
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := worker.Health(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}
