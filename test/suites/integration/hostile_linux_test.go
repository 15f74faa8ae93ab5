package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// containerLimit is the memory that the chart gives the manager.
const containerLimit = 256 << 20

// inContainer is the limit that the manager sets itself there.
var inContainer = fmt.Sprintf("GOMEMLIMIT=%d", containerLimit*9/10)

// attack writes to a connection whatever makes the other side hold most, and never finishes. It may fail: the other side
// may have closed the connection.
type attack struct {
	name        string
	connections int
	protocol    string // of TLS; blank for none
	metrics     bool   // it is the second port that is attacked
	write       func(io.ReadWriter)
}

const post = "POST " + webhook.MutatePath + " HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\n"

var attacks = []attack{
	{"says nothing", 200, "", false, func(io.ReadWriter) {}},
	{"never ends the handshake", 100, "", false, func(c io.ReadWriter) {
		_, _ = c.Write(append([]byte{22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, make([]byte, 16_000)...))
	}},
	{"never ends a header", 280, "http/1.1", false, func(c io.ReadWriter) {
		_, _ = io.WriteString(c, post+"X: ")
		_, _ = c.Write(bytes.Repeat([]byte("x"), 900<<10))
	}},
	{"never ends a header of a scrape", 200, "", true, func(c io.ReadWriter) {
		_, _ = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: metrics\r\nX: ")
		_, _ = c.Write(bytes.Repeat([]byte("x"), 900<<10))
	}},
	{"never ends a large body", 60, "http/1.1", false, func(c io.ReadWriter) {
		_, _ = io.WriteString(c, post+"Content-Length: 7000000\r\n\r\n")
		_, _ = c.Write(bytes.Repeat([]byte(" "), 6<<20))
	}},
	{"never ends a small body", 200, "http/1.1", false, func(c io.ReadWriter) {
		_, _ = io.WriteString(c, post+"Content-Length: 64000\r\n\r\n")
		_, _ = c.Write(bytes.Repeat([]byte(" "), 60_000))
	}},
	{"never ends a large frame", 120, "h2", false, func(c io.ReadWriter) {
		_, _ = io.WriteString(c, http2.ClientPreface)
		_ = http2.NewFramer(c, c).WriteSettings()
		_, _ = c.Write([]byte{0x0f, 0xff, 0xff, 0, 0, 0, 0, 0, 1}) // a megabyte of data is to follow
	}},
	{"reads no answer", 60, "http/1.1", false, func(c io.ReadWriter) {
		review := refusedReview()
		for range 1000 { // until nothing more is taken
			if _, err := io.WriteString(c, review); err != nil {
				return
			}
		}
	}},
	{"never ends many streams", 40, "h2", false, func(c io.ReadWriter) {
		_, _ = io.WriteString(c, http2.ClientPreface)
		framer := http2.NewFramer(c, c)
		_ = framer.WriteSettings()
		var header bytes.Buffer
		encoder := hpack.NewEncoder(&header)
		for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "webhook"}, {":path", webhook.MutatePath},
			{"content-type", "application/json"}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		for stream := uint32(1); stream < 200; stream += 2 {
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: header.Bytes(), EndHeaders: true})
			if framer.WriteData(stream, false, bytes.Repeat([]byte(" "), 16<<10)) != nil {
				return
			}
		}
	}},
}

// refusedReview is a request whose refusal could be far longer than it is.
func refusedReview() string {
	long := strings.Repeat("<", 30_000)
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","name":"a",
		"resource":{"group":"tcr.tencentcloudcr.com","version":"v1","resource":"imagepullsecrets"},"operation":"CREATE",
		"object":{"metadata":{"name":"a"},"spec":{"namespaces":"` + long + `","serviceAccounts":"` + long + `","docker":{"username":"u","password":"p","server":"r.io"}}}}}`
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		webhook.ValidatePath, len(review), review)
}

// hold keeps one connection of an attack open until ctx ends, and opens another one when it is closed. It comes from an address
// that is not the API server's, as another pod does.
func (a attack) hold(ctx context.Context, from net.IP, address string) {
	for ctx.Err() == nil {
		plain, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", address)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { _ = plain.Close() })
			conn := plain
			if a.protocol != "" {
				conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{a.protocol}})
			}
			a.write(conn)
			_, _ = io.Copy(io.Discard, conn) // until the other side has had enough
			_ = plain.Close()
			stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // connections that hold on are what this is about, not new ones
		}
	}
}

// TestHostileCallersNeitherEndTheManagerNorSilenceIt lets a thousand connections of all kinds hold on to the webhook, which
// cannot know who calls.
func TestHostileCallersNeitherEndTheManagerNorSilenceIt(t *testing.T) {
	w := newWorld(t)
	m := w.runWith(manager.Options{Env: []string{inContainer}})
	w.Create("honest")
	w.Holds("default", "honest")

	ctx, end := context.WithCancel(w.Ctx)
	var attacking sync.WaitGroup
	defer attacking.Wait()
	defer end()
	connections := 0
	for _, a := range attacks {
		for range a.connections {
			connections++
			from := net.IPv4(127, 0, 1, byte(1+connections%16))
			address := m.WebhookAddress
			if a.metrics {
				address = m.MetricsAddress
			}
			attacking.Go(func() { a.hold(ctx, from, address) })
		}
	}
	require.GreaterOrEqual(t, connections, 1000)

	client := &http.Client{Timeout: w.Hang, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true}}
	began := time.Now()
	asked, answered := 0, 0
	for ; answered < 50 || time.Since(began) < 15*time.Second; answered++ { // longer than anything unfinished is waited for
		// On a machine that is starved, as by so many attackers in this very process, a handshake may take longer than it has.
		w.Eventually("an honest request is answered", func() error {
			asked++
			return reviewed(client, m.WebhookAddress)
		})
	}
	attempt := 0
	w.Eventually("an account is born with its entry", func() error {
		attempt++
		if account := w.account("default", fmt.Sprintf("born-%d", attempt)); len(account.ImagePullSecrets) == 0 {
			return errors.New("it was born without")
		}
		return nil
	})
	w.Eventually("a probe is answered", func() error {
		_, err := m.Get(w.Ctx, "/readyz")
		return err
	})
	used := peak(t, m)
	t.Logf("%d of %d honest requests were answered; the process held %d MiB at most", answered, asked, used>>20)
	assert.Less(t, used, containerLimit)
}

// reviewed has a service account reviewed as an API server does.
func reviewed(client *http.Client, address string) error {
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"default","name":"a",
		"resource":{"group":"","version":"v1","resource":"serviceaccounts"},"operation":"CREATE","object":{"metadata":{"name":"a"}}}}`
	response, err := client.Post("https://"+address+webhook.MutatePath, "application/json", strings.NewReader(review))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"patch"`))) {
		err = fmt.Errorf("it answered %s: %s", response.Status, text)
	}
	return err
}

// peak is the most memory that the manager has held.
func peak(t *testing.T, m *manager.Manager) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Pid()))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(t, found)
	var kilobytes int
	_, err = fmt.Sscan(rest, &kilobytes)
	require.NoError(t, err)
	return kilobytes << 10
}
