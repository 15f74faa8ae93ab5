package tencentcloud

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Proxy tunnels to a cloud whoever asks for one of its public names, which lead nowhere without it. It refuses everybody else.
type Proxy struct {
	to, url string

	mu     sync.Mutex
	status int
	asked  []string
}

// StartProxy starts a proxy to the cloud, on the same address. It ends with the cloud.
func (c *Cloud) StartProxy() (*Proxy, error) {
	p := &Proxy{to: strings.TrimPrefix(c.url, "https://"), status: http.StatusOK}
	host, _, err := net.SplitHostPort(p.to)
	if err != nil {
		return nil, fmt.Errorf("starting a proxy: %w", err)
	}
	address, err := c.serve(host, p, nil)
	if err != nil {
		return nil, fmt.Errorf("starting a proxy: %w", err)
	}
	p.url = "http://" + address
	return p, nil
}

// URL is what HTTPS_PROXY says of it.
func (p *Proxy) URL() string { return p.url }

// Refuse has the proxy answer everybody with a status, and http.StatusOK lets them through again.
func (p *Proxy) Refuse(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// Asked returns the hosts, with their ports, that it was asked for until now.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// ServeHTTP tunnels one connection.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	status := p.status
	p.asked = append(p.asked, r.Host)
	p.mu.Unlock()
	if status == http.StatusOK && (r.Method != http.MethodConnect || !strings.HasSuffix(r.Host, ".tencentcloudapi.com:443")) {
		status = http.StatusForbidden
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "a body of somebody's") // who asked may be gone
		return
	}
	server, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", p.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer server.Close()
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	go func() { _, _ = io.Copy(server, buffered) }()
	_, _ = io.Copy(client, server)
}
