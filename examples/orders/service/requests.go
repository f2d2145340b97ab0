package service

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/mail"
	"strings"
	"unicode/utf8"
)

// inWords says what is wrong with a request's JSON to somebody who does not know Go's types.
func inWords(err error) string {
	wrong := (*json.UnmarshalTypeError)(nil)
	switch {
	case errors.Is(err, io.EOF):
		return "the body is empty"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the body ends too early"
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Sprintf("%s is a JSON %s: want a string", wrong.Field, wrong.Value)
	case errors.As(err, &wrong):
		return "the body is a JSON " + wrong.Value
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// readJSON reads the body of a request, whatever its Content-Type says: that of curl -d says form.
func readJSON(body io.Reader, request any) error {
	text, err := io.ReadAll(body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	if err != nil {
		slog.Info("body not read", "error", err)
		return errors.New("the body cannot be read")
	}
	if !utf8.Valid(text) { // encoding/json would put U+FFFD in its place, and the mail would show it
		return errors.New("the body is not valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		return fmt.Errorf(`want a JSON object like {"description":"two coffees"}: %s`, inWords(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the JSON object")
	}
	return nil
}

// readOrder reads and checks the body of a new order.
func readOrder(body io.Reader) (Order, error) {
	var request struct {
		Description string `json:"description"`
		Email       string `json:"email"`
	}
	if err := readJSON(body, &request); err != nil {
		return Order{}, err
	}
	description, err := checkDescription(request.Description)
	if err == nil && request.Email != "" {
		err = checkEmail(request.Email)
	}
	if err != nil {
		return Order{}, err
	}
	asked := sha256.Sum256(fmt.Appendf(nil, "%q %q", description, request.Email))
	return Order{Version: 1, Description: description, Email: request.Email, Request: fmt.Sprintf("%x", asked)}, nil
}

// readChange reads and checks the body of a change: the order's new description.
func readChange(body io.Reader) (description string, err error) {
	var request struct {
		Description string `json:"description"`
	}
	if err := readJSON(body, &request); err != nil {
		return "", err
	}
	return checkDescription(request.Description)
}

// checkText returns that a character was lost, if one was.
func checkText(text string) error {
	if strings.ContainsRune(text, utf8.RuneError) {
		return errors.New("a character was lost on the way here: there is a U+FFFD, or half of a surrogate pair")
	}
	return nil
}

// checkDescription returns a description without the blanks around it, or what is wrong with it.
func checkDescription(text string) (string, error) {
	if err := checkText(text); err != nil {
		return "", err
	}
	switch text = strings.TrimSpace(text); {
	case text == "":
		return "", errors.New("the description is empty")
	case len(text) > maxDescription:
		return "", fmt.Errorf("the description has %d bytes, at most %d are allowed", len(text), maxDescription)
	}
	return text, nil
}

func checkEmail(text string) error {
	if err := checkText(text); err != nil {
		return err
	}
	if err := checkAddress(text); err != nil {
		return fmt.Errorf("the email: %w", err)
	}
	return nil
}

// checkAddress returns what is wrong with a bare mail address.
func checkAddress(text string) error {
	address, err := mail.ParseAddress(text)
	switch {
	case err != nil, address.Address != text || address.Name != "":
		return errors.New("want only an address, like a@example.com")
	case len(text) > maxEmail:
		return fmt.Errorf("it has %d bytes, at most %d are allowed", len(text), maxEmail)
	}
	return nil
}
