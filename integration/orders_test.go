package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The order service end to end, as a program of its own: an order is posted, committed to the server's tables with its event,
// carried to the server's stream by the server's own destination, read by the consumer, and confirmed by mail.
func TestOrderService(t *testing.T) {
	binary := buildExample(t, "orders")
	for _, s := range servers(t) {
		if s.endpoint == "" || !slices.Contains(s.offers, hop) {
			continue // in process there is no way for another program; the cases say what is not offered
		}
		t.Run(s.name, func(t *testing.T) {
			url := startOrders(t, binary, s.endpoint)
			want := map[string]string{}
			for i := range 5 {
				want[placeOrder(t, url, fmt.Sprint("coffee ", i))] = fmt.Sprint("Thank you for your order: coffee ", i)
			}
			got := map[string]string{}
			for deadline := time.Now().Add(time.Minute); len(got) < len(want); time.Sleep(50 * time.Millisecond) {
				require.Truef(t, time.Now().Before(deadline), "after a minute %d of %d orders are confirmed", len(got), len(want))
				var mails []struct{ OrderID, Text string }
				getJSON(t, url+"/mails", &mails)
				for _, m := range mails {
					got[m.OrderID] = m.Text
				}
				require.LessOrEqual(t, len(mails), len(want), "an order is confirmed twice")
			}
			require.Equal(t, want, got)
			for id := range want {
				var order struct{ OrderID, Description string }
				getJSON(t, url+"/orders/"+id, &order)
				require.Equal(t, id, order.OrderID)
			}
			summaries.note(fmt.Sprintf("order service on %s: %d orders placed and confirmed by mail", s.name, len(want)))
		})
	}
}

// startOrders starts the service on an AWS and returns its URL. It must end well when the test does.
func startOrders(t *testing.T, binary, endpoint string) (url string) {
	t.Helper()
	service := exec.Command(binary, "-aws", "-mails", "-addr", "127.0.0.1:0")
	service.Env = localEnvironment(endpoint)
	var log bytes.Buffer
	service.Stderr = &log
	out, err := service.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, service.Start())
	giveUp := time.AfterFunc(3*time.Minute, func() { _ = service.Process.Kill() })
	found := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if u := regexp.MustCompile(`http://[0-9.:]+`).FindString(lines.Text()); u != "" {
				select {
				case found <- u:
				default:
				}
			}
		}
		close(found)
	}()
	t.Cleanup(func() {
		_ = service.Process.Signal(syscall.SIGTERM)
		<-drained
		err := service.Wait()
		giveUp.Stop()
		require.NoErrorf(t, err, "the service did not end well:\n%s", log.String())
	})
	url = <-found
	require.NotEmpty(t, url, "the service did not start")
	return url
}
