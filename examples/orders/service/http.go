package service

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"strings"
)

// Problem is the body of every answer that says why not.
type Problem struct {
	Error string `json:"error"`
}

// Answer writes an answer in JSON.
func Answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Warn("answer not written", "error", err)
	}
}

func nothing(w http.ResponseWriter, _ *http.Request) {
	Answer(w, http.StatusNotFound, Problem{"there is nothing here"})
}

// Handle registers the handler of a route, "METHOD path", and answers the path's other methods with 405. It panics if the path has a
// route already.
func Handle(mux *http.ServeMux, route string, handle http.HandlerFunc) {
	method, path, _ := strings.Cut(route, " ")
	allowed := method
	if method == http.MethodGet {
		allowed += ", " + http.MethodHead
	}
	mux.HandleFunc(route, handle)
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed)
		Answer(w, http.StatusMethodNotAllowed, Problem{"the method " + r.Method + " is not allowed here, want " + allowed})
	})
}

// OnlyCleanPaths answers a path like //a/../b with 404, in JSON. A ServeMux would redirect it, with a page in HTML.
func OnlyCleanPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.EscapedPath()
		clean := path.Clean("/" + asked)
		if strings.HasSuffix(asked, "/") && clean != "/" {
			clean += "/"
		}
		if asked != clean {
			nothing(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
