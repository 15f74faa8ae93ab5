package tencentcloud

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"
)

// Failure is one way not to get what was asked for.
type Failure struct {
	// Code and Message are an error as the API answers it, in place of what was asked for.
	Code, Message string
	// Late is how long the answer takes. With nothing else it is a good one.
	Late time.Duration
	// Status and Body are an answer that does not come from the API. With Echo, the body is a page that repeats the request's
	// headers, as some proxies do.
	Status int
	Body   string
	Echo   bool
	// Header goes with Status.
	Header http.Header
	// Cut does what was asked for and ends the answer in its middle.
	Cut bool
	// Lost does what was asked for and ends the connection without an answer.
	Lost bool
	// Then is called once what was asked for is done, before anything is answered; it may be nil.
	Then func()
	// Refused ends the connection and does nothing.
	Refused bool

	left int // requests; negative for all
}

// Fail has an action fail so many times; "*" stands for every one, and 0 times for always. Failures of one action happen one after
// the other.
func (c *Cloud) Fail(action string, times int, failure Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	failure.left = times
	if times == 0 {
		failure.left = -1
	}
	c.failures[action] = append(c.failures[action], &failure)
}

// Recover ends every failure.
func (c *Cloud) Recover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.failures)
}

// failing returns how an action fails this time; nil where it does not.
func (c *Cloud) failing(action string) *Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range []string{action, "*"} {
		queue := c.failures[name]
		if len(queue) == 0 {
			continue
		}
		failure := queue[0]
		if failure.left > 0 {
			failure.left--
		}
		if failure.left == 0 {
			c.failures[name] = queue[1:]
		}
		return failure
	}
	return nil
}

// foreign says whether it keeps the API from seeing the request.
func (f *Failure) foreign() bool { return f.Refused || f.Status != 0 }

// instead writes what comes in place of the API's answer; false where the API is to answer.
func (f *Failure) instead(w http.ResponseWriter, r *http.Request) bool {
	if f.Late > 0 {
		select {
		case <-time.After(f.Late):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.Refused:
		panic(http.ErrAbortHandler)
	case f.Status == 0:
		return false
	}
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	body := f.Body
	if f.Echo {
		body = echo(r)
		w.Header().Set("Content-Type", "text/html")
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write([]byte(body)) // who asked may be gone
	return true
}

// echo returns a page that repeats what was asked.
func echo(r *http.Request) string {
	var page strings.Builder
	page.WriteString("<html><body><h1>Access denied</h1><pre>\n")
	for name, values := range r.Header {
		fmt.Fprintf(&page, "%s: %s\n", name, html.EscapeString(strings.Join(values, ", ")))
	}
	page.WriteString("</pre></body></html>\n")
	return page.String()
}
