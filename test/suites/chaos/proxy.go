package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// proxy is how one replica reaches the API server: as that replica's user, and not always well.
type proxy struct {
	name      string
	seed      uint64
	hostility hostility
	journal   *journal
	upstream  http.RoundTripper
	base      string // the API server's address
	server    *httptest.Server

	mu       sync.Mutex
	counts   map[string]int  // requests by what they ask for
	refused  map[string]bool // what was answered with 422
	hostile  bool
	cutOff   bool
	lastNews time.Time // of the last request that a steady manager would not make
}

// newProxy starts a proxy before the API server at base. Until it is told to be hostile it passes everything on.
func newProxy(name string, seed uint64, journal *journal, upstream http.RoundTripper, base string) *proxy {
	p := &proxy{
		name: name, seed: seed, hostility: newHostility(seed), journal: journal, upstream: upstream, base: base,
		counts: map[string]int{}, refused: map[string]bool{}, lastNews: time.Now(),
	}
	p.server = httptest.NewUnstartedServer(p)
	p.server.EnableHTTP2 = true
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0) // that connections end is what it is for
	p.server.StartTLS()
	return p
}

func (p *proxy) stop() {
	p.server.CloseClientConnections()
	p.server.Close()
}

// set says whether it is hostile from now on.
func (p *proxy) set(hostile bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hostile = hostile
}

func (p *proxy) isHostile() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hostile
}

// reach says whether the API server can be reached from now on. When that ends, so does every connection.
func (p *proxy) reach(can bool) {
	p.mu.Lock()
	before := !p.cutOff
	p.cutOff = !can
	p.mu.Unlock()
	if before == can {
		return
	}
	p.journal.note(p.name, "can reach the API server: %t", can)
	if !can {
		p.server.CloseClientConnections()
	}
}

// silentSince returns since when its replica has asked for nothing but its Lease, and began no watch.
func (p *proxy) silentSince() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastNews
}

// ServeHTTP passes a request on, or does to it what the seed says.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	asked, f, cutOff := p.take(r)
	if cutOff {
		panic(http.ErrAbortHandler)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	pause(r.Context(), f.before)
	switch {
	case f.refuse > 0:
		p.journal.note(p.name, "%s: %s", asked, f)
		refuse(w, f.refuse)
		return
	case f.cut:
		p.journal.note(p.name, "%s: %s", asked, f)
		panic(http.ErrAbortHandler)
	}
	ctx := r.Context()
	if asked.writes() {
		// What was sent is carried out, whether or not somebody still waits for it.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
	}
	answer, err := p.ask(ctx, r, body, asked)
	if err != nil {
		p.journal.note(p.name, "%s: %v", asked, err)
		panic(http.ErrAbortHandler)
	}
	defer answer.Body.Close()
	if asked.watch && answer.StatusCode == http.StatusOK {
		p.journal.note(p.name, "%s: %d %s", asked, answer.StatusCode, f)
		p.stream(w, r, answer, asked, f.watch)
		return
	}
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if asked.writes() || f != (fault{}) {
		p.journal.note(p.name, "%s: %d %s", asked, answer.StatusCode, f)
	}
	pause(r.Context(), f.after)
	switch {
	case f.retract > 0:
		refuse(w, f.retract)
	case f.cutLate:
		panic(http.ErrAbortHandler)
	default:
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.StatusCode)
		_, _ = w.Write(content) // who asked may be gone
	}
}

// take counts a request and returns what is to happen to it.
func (p *proxy) take(r *http.Request) (asked request, f fault, cutOff bool) {
	query := r.URL.Query()
	asked = request{replica: p.name, method: r.Method, path: r.URL.Path, watch: query.Get("watch") != ""}
	if selector := query.Get("fieldSelector"); selector != "" {
		asked.path += "?" + selector
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	same := asked.String()
	p.counts[same]++
	asked.count = p.counts[same]
	if !strings.Contains(asked.path, "/leases") {
		p.lastNews = time.Now()
		if !p.hostile && !asked.writes() {
			p.journal.note(p.name, "%s", asked)
		}
	}
	if p.hostile {
		f = p.hostility.fault(p.seed, asked)
		if f.refuse == http.StatusUnprocessableEntity {
			f.refuse = p.invalid(asked)
		}
	}
	return asked, f, p.cutOff
}

// invalid answers 422 once for each path. Who is told a second time that a request is not valid may take that for the last
// word, and wait for minutes. Reviews are never told so: nothing that is stored can make them invalid.
func (p *proxy) invalid(asked request) int {
	if p.refused[asked.path] || strings.Contains(asked.path, "reviews") {
		return http.StatusServiceUnavailable
	}
	p.refused[asked.path] = true
	return http.StatusUnprocessableEntity
}

// ask carries a request out.
func (p *proxy) ask(ctx context.Context, r *http.Request, body []byte, asked request) (*http.Response, error) {
	passed, err := http.NewRequestWithContext(ctx, r.Method, p.base+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	passed.Header = r.Header.Clone()
	passed.Header.Del("Authorization")
	if asked.watch {
		passed.Header.Set("Accept", "application/json") // an event a line, so that one can be cut or made up
		passed.Header.Del("Accept-Encoding")
	}
	return p.upstream.RoundTrip(passed)
}

// stream passes the events of a watch on until it ends.
func (p *proxy) stream(w http.ResponseWriter, r *http.Request, answer *http.Response, asked request, f watchFault) {
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	flush := http.NewResponseController(w).Flush
	_ = flush() // as below: who asked may be gone
	events := make(chan []byte)
	go func() {
		defer close(events)
		for reader := bufio.NewReader(answer.Body); ; {
			line, err := reader.ReadBytes('\n')
			if err != nil {
				return
			}
			select {
			case events <- line:
			case <-r.Context().Done():
				return
			}
		}
	}()
	var end <-chan time.Time
	if f.ends > 0 {
		timer := time.NewTimer(f.ends)
		defer timer.Stop()
		end = timer.C
	}
	random := source(p.seed, "events", asked)
	for {
		select {
		case <-r.Context().Done():
			return
		case line, more := <-events:
			if !more {
				return
			}
			late, by := random.IntN(100) < f.late, time.Duration(random.Int64N(int64(700*time.Millisecond)))
			if late && p.isHostile() {
				pause(r.Context(), by)
			}
			_, _ = w.Write(line)
			_ = flush()
		case <-end:
			if !p.isHostile() {
				end = nil
				continue
			}
			p.journal.note(p.name, "%s ends %s", asked, f.how)
			switch f.how {
			case inAnEvent:
				_, _ = io.WriteString(w, `{"type":"MODIFIED","object":{"kind":`)
				_ = flush()
				panic(http.ErrAbortHandler)
			case expired:
				_ = json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": status(http.StatusGone)})
				_ = flush()
			}
			return
		}
	}
}

// pause waits for so long, or until ctx ends.
func pause(ctx context.Context, long time.Duration) {
	if long <= 0 {
		return
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// refuse answers as the API server does.
func refuse(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(1))
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status(code)) // who asked may be gone
}

func status(code int) metav1.Status {
	reason := map[int]metav1.StatusReason{
		http.StatusConflict: metav1.StatusReasonConflict, http.StatusGone: metav1.StatusReasonExpired,
		http.StatusUnprocessableEntity: metav1.StatusReasonInvalid, http.StatusTooManyRequests: metav1.StatusReasonTooManyRequests,
		http.StatusInternalServerError: metav1.StatusReasonInternalError, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
		http.StatusGatewayTimeout: metav1.StatusReasonTimeout,
	}[code]
	answer := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: int32(code), Reason: reason, Message: fmt.Sprintf("chaos answers %d", code),
	}
	if code == http.StatusTooManyRequests {
		answer.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	}
	return answer
}
