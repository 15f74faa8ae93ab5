package certs_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/certs"
)

// A clock is the real one, moved.
type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// set moves the clock to a time.
func (c *clock) set(now time.Time) { c.offset.Store(int64(time.Until(now))) }

// A wire is what lies between a replica and the API server, and can fail.
type wire struct {
	next http.RoundTripper
	slow string        // the end of the paths that are watched late; blank for all
	lag  time.Duration // by how much
	hook atomic.Pointer[func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error)]
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	if hook := w.hook.Load(); hook != nil {
		return (*hook)(request, func() (*http.Response, error) { return w.next.RoundTrip(request) })
	}
	response, err := w.next.RoundTrip(request)
	if err == nil && w.lag > 0 && request.URL.Query().Has("watch") && strings.HasSuffix(request.URL.Path, w.slow) {
		response.Body = &late{ReadCloser: response.Body, lag: w.lag}
	}
	return response, err
}

// late is a body whose every event comes late.
type late struct {
	io.ReadCloser
	lag  time.Duration
	last time.Time
}

func (l *late) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if time.Since(l.last) > 20*time.Millisecond { // not the rest of an event
		time.Sleep(l.lag)
	}
	l.last = time.Now()
	return n, err
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// has says whether a line holds all the given parts.
func (l *lines) has(parts ...string) bool {
	for line := range strings.Lines(l.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

// onApproval hooks into the approval of requests, onCreation into their creation; nil ends it.
func (p *replica) onApproval(hook func(send func() (*http.Response, error)) (*http.Response, error)) {
	p.on(http.MethodPut, "/certificatesigningrequests/"+certs.RequestName+"/approval", hook)
}

func (p *replica) onCreation(hook func(send func() (*http.Response, error)) (*http.Response, error)) {
	p.on(http.MethodPost, "/certificatesigningrequests", hook)
}

func (p *replica) on(method, suffix string, hook func(send func() (*http.Response, error)) (*http.Response, error)) {
	if hook == nil {
		p.wire.hook.Store(nil)
		return
	}
	whole := func(request *http.Request, send func() (*http.Response, error)) (*http.Response, error) {
		if request.Method == method && strings.HasSuffix(request.URL.Path, suffix) {
			return hook(send)
		}
		return send()
	}
	p.wire.hook.Store(&whole)
}

// answered is what an API server would have said.
func answered(code int, status metav1.Status) (*http.Response, error) {
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	text, err := json.Marshal(status)
	return &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(text))}, err
}
