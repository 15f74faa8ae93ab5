package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Request is a request to the API server, as its audit log has it.
type Request struct {
	User        string
	UserAgent   string
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection
	URI         string
	APIGroup    string // empty for the core group and for what is no resource
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	Code        int       // HTTP status of the response
	Received    time.Time // when the API server got it
	Answered    time.Time // when the response was complete; of a running watch, when it began
	Running     bool      // a watch that has not ended

	// Unauthorized says that the user has no permission for it, which is one of several reasons for the code 403.
	Unauthorized bool
}

// AuditLog is the path of the API server's audit log: every request, at the level Metadata.
func (c *Cluster) AuditLog() string { return c.path(auditLogFile) }

// Requests returns those requests in the audit log that match, in the order in which the
// log has them: a request stands where it ended, a watch where it began. A request is in it
// before its client has the whole answer.
func (c *Cluster) Requests(match func(Request) bool) ([]Request, error) {
	text, err := os.ReadFile(c.AuditLog())
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	all, err := parseAudit(text)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var matching []Request
	for _, r := range all {
		if match(r) {
			matching = append(matching, r)
		}
	}
	return matching, nil
}

// event is the part of an audit.k8s.io/v1 Event that matters here.
type event struct {
	AuditID    string
	Stage      string
	RequestURI string
	Verb       string
	UserAgent  string
	User       struct{ Username string }
	ObjectRef  struct{ APIGroup, Resource, Subresource, Namespace, Name string }

	Annotations              map[string]string
	ResponseStatus           struct{ Code int }
	RequestReceivedTimestamp time.Time
	StageTimestamp           time.Time
}

// parseAudit reads one event per line, and ignores a last line that is still being
// written. The two events of a watch make one request.
func parseAudit(text []byte) ([]Request, error) {
	var requests []Request
	byID := map[string]int{}
	for number := 1; ; number++ {
		line, rest, complete := bytes.Cut(text, []byte("\n"))
		if !complete {
			return requests, nil
		}
		text = rest
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		r := Request{
			User: e.User.Username, UserAgent: e.UserAgent, Verb: e.Verb, URI: e.RequestURI,
			APIGroup: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource, Subresource: e.ObjectRef.Subresource,
			Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name,
			Code: e.ResponseStatus.Code, Received: e.RequestReceivedTimestamp, Answered: e.StageTimestamp,
			Running:      e.Stage == "ResponseStarted",
			Unauthorized: e.Annotations["authorization.k8s.io/decision"] == "forbid",
		}
		if at, ok := byID[e.AuditID]; ok {
			requests[at] = r
			continue
		}
		byID[e.AuditID] = len(requests)
		requests = append(requests, r)
	}
}
