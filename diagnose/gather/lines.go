package gather

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/diagnose"
	"github.com/tcr-assistant/tcr-assistant/hostsd"
)

const (
	// linesTimeout is how long a pod of hosts-updater may take to answer: its node may be unreachable.
	linesTimeout = 5 * time.Second
	// maxUnanswered is how many of these pods may fail to answer before no more are asked: each that is unreachable takes its time.
	maxUnanswered = 3
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20
)

// proxy asks pods, through the API server.
type proxy struct {
	client *http.Client
	base   *url.URL
}

func newProxy(config *rest.Config) (*proxy, error) {
	shared, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	client := *shared
	// A pod answers, and it must not be able to redirect the user's token elsewhere.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &proxy{client: &client, base: base}, nil
}

// get returns what a pod answers at a path.
func (p *proxy) get(ctx context.Context, namespace, pod string, port int32, path string) ([]byte, error) {
	at := p.base.JoinPath("api/v1/namespaces", namespace, "pods", fmt.Sprintf("%s:%d", pod, port), "proxy", path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(request)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without an address that may hold a password
		}
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	case response.StatusCode == http.StatusOK:
		return body, nil
	}
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" && status.Reason == metav1.StatusReasonForbidden {
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	return nil, fmt.Errorf("the answer was %d", response.StatusCode)
}

// readLines returns the lines of a node's hosts file for the configured domains, as the pod of hosts-updater there reports them; nil
// if there is no such pod.
func (c *Cluster) readLines(ctx context.Context, found hosts, node string) (*[]diagnose.HostsLine, error) {
	asked, runs := found.nodes[node]
	if !runs {
		return nil, nil
	}
	title := fmt.Sprintf("the hosts file of node %s, of pod %s/%s", node, found.namespace, asked.name)
	ctx, cancel := context.WithTimeout(ctx, linesTimeout)
	defer cancel()
	body, err := c.proxy.get(ctx, found.namespace, asked.name, asked.port, hostsd.LinesPath)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", title, err)
	}
	var answer hostsd.Lines
	switch err := json.Unmarshal(body, &answer); {
	case err != nil || answer.Lines == nil:
		return nil, fmt.Errorf("asking for %s: the answer is not from hosts-updater", title)
	case answer.More:
		return nil, fmt.Errorf("asking for %s: it has too many lines to report all of them", title)
	}
	lines := []diagnose.HostsLine{}
	for _, line := range answer.Lines {
		configured := slices.ContainsFunc(found.configured, func(one diagnose.HostsLine) bool {
			return strings.EqualFold(one.Domain, line.Domain)
		})
		if addr, err := netip.ParseAddr(line.IP); err == nil && configured {
			lines = append(lines, diagnose.HostsLine{Domain: line.Domain, IP: addr.WithZone("").String()})
		}
	}
	return &lines, nil
}

// addLines adds the lines of the pod's node to evidence, if they matter.
func (g *gatherer) addLines(ctx context.Context, evidence *diagnose.Evidence, hidden *unseen) {
	if !evidence.NeedsLines() {
		return
	}
	lines, err := once(g.lines, evidence.Pod.Node, func() (*[]diagnose.HostsLine, error) {
		if g.unanswered >= maxUnanswered {
			return nil, g.noLines
		}
		lines, err := g.readLines(ctx, g.common.hosts, evidence.Pod.Node)
		switch {
		case apierrors.IsForbidden(err):
			g.unanswered, g.noLines = maxUnanswered, err // every pod would be refused
		case err != nil:
			g.unanswered, g.noLines = g.unanswered+1, err
		}
		return lines, err
	})
	switch {
	case err != nil:
		hidden.note(diagnose.PartNode, err)
	case lines != nil:
		evidence.Node.Lines, evidence.Node.Known = *lines, true
	}
}
