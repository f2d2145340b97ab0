package service

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/oklog/ulid/v2"
)

// maxKey is how many bytes an idempotency key may have.
const maxKey = 255

// orderID is a new id, or the one that belongs to the request's idempotency key. A key is that of its caller: another's is another order.
func orderID(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	switch {
	case len(keys) == 0:
		return newID()
	case len(keys) > 1:
		return "", errors.New("there is more than one Idempotency-Key")
	case keys[0] == "":
		return "", errors.New("the Idempotency-Key is empty: leave the header out, or choose a key")
	case len(keys[0]) > maxKey:
		return "", fmt.Errorf("the Idempotency-Key has %d bytes, at most %d are allowed", len(keys[0]), maxKey)
	}
	caller, _ := r.Context().Value(callerKey{}).(string)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q", caller, keys[0]))
	return ulid.ULID(sum[:16]).String(), nil
}

// newID returns an id that nobody can guess: the numbers of ulid.Make are not made for this.
func newID() (string, error) {
	id, err := ulid.New(ulid.Now(), rand.Reader)
	return id.String(), err
}

type callerKey struct{}

// withCaller says who a request is from. Without it, all requests are from one caller.
func withCaller(ctx context.Context, in *events.APIGatewayV2HTTPRequest) context.Context {
	if in.RequestContext.Authorizer == nil || in.RequestContext.Authorizer.IAM == nil {
		return ctx
	}
	iam := in.RequestContext.Authorizer.IAM
	principal := cmp.Or(iam.UserID, iam.UserARN, iam.CallerID)
	if role, _, found := strings.Cut(principal, ":"); found && strings.HasPrefix(role, "AROA") {
		principal = role // its sessions are one caller, whose repeats may come from another machine
	}
	// All users of an identity pool have one role.
	return context.WithValue(ctx, callerKey{}, strings.Join([]string{iam.AccountID, principal, iam.CognitoIdentity.IdentityID}, " "))
}
