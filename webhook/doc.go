// Package webhook answers the API server's admission requests.
//
// The path of an admission review:
//
//	API server ──> NewServer, Guard ──> intake ──> decode ──> mutate or validate ──> encode ──> API server
//	               bound connections    bounds     is strict          ^
//	                                    bytes                         └── Attachments: the leader's Index, or what it has derived
//
// mutate and validate are pure: they turn Attachments and a request into a response. Unless Callers demands client certificates, nobody
// knows who calls. So NewServer, Guard and intake bound what callers can make the process hold: connections, and the bytes of reviews
// and of answers that nobody has read yet. A request that could not be answered gets an HTTP error instead of an AdmissionReview, and the
// webhook's failure policy decides.
//
// Nothing here calls the API server. Its subpackage registration makes the API server call the webhook.
package webhook
