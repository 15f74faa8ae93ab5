package reflector

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/tcr-assistant/tcr-assistant/clientset"
)

// hostileStream is what a server answers the watch with, and what is wanted of that: an error that says so.
type hostileStream struct {
	stream []byte
	code   int
	want   string
}

func hostileStreams() map[string]hostileStream {
	whole := frame("ADDED", secret("x", "101"))
	tooLong := metav1.WatchEvent{Type: strings.Repeat("x", frameLimit)}
	huge, err := tooLong.Marshal()
	if err != nil {
		panic(err)
	}
	status := apierrors.NewResourceExpired("too old").Status()
	expired := &status
	return map[string]hostileStream{
		"nothing":                         {nil, 200, "ended before its time"},
		"an end after an event":           {whole, 200, "ended before its time"},
		"an end within a length":          {whole[:3], 200, "reading the length of an event: unexpected EOF"},
		"an end within an event":          {whole[:len(whole)-1], 200, "unexpected EOF"},
		"an end after a length":           {whole[:4], 200, "it ended after 0 bytes of"},
		"a length of 4 GB":                {[]byte("\xff\xff\xff\xff"), 200, "it is 4294967295 bytes long, and may be at most 16777216"},
		"an event that is too long":       {framed(huge), 200, "bytes long, and may be at most 16777216"},
		"an empty event":                  {framed(nil), 200, "decoding the object of an event"},
		"garbage in a frame":              {framed([]byte("\xde\xad\xbe\xef")), 200, "decoding an event"},
		"garbage":                         {[]byte("<html>"), 200, "bytes long, and may be"},
		"an object that is garbage":       {framed([]byte("\x0a\x05ADDED\x12\x06\x0a\x04k8s\x00")), 200, "decoding the object of an event"},
		"a status":                        {frame("ERROR", expired), 200, "too old"},
		"a status in another event":       {frame("ADDED", expired), 200, "too old"},
		"a secret as an error":            {frame("ERROR", secret("x", "101")), 200, "unexpected object"},
		"an object of another kind":       {frame("ADDED", &corev1.Namespace{}), 200, "unexpected object"},
		"an event of another type":        {frame("RENAMED", secret("x", "101")), 200, `its type is "RENAMED"`},
		"a status in JSON":                {line("ERROR", expired), 200, "too old"},
		"JSON that ends within an event":  {line("ADDED", secret("x", "101"))[:40], 200, "decoding an event: unexpected EOF"},
		"JSON that ends after its events": {line("ADDED", secret("x", "101")), 200, "ended before its time"},
		"JSON after blanks":               {append([]byte("\n\n"), line("ADDED", secret("x", "101"))...), 200, "ended before its time"},
		"garbage in JSON":                 {[]byte("{{{{{{{{"), 200, "decoding an event"},
		"JSON of another kind":            {[]byte(`{"type":"ADDED","object":[]}`), 200, "decoding the object of an event"},
		"JSON without an end":             {[]byte(`{"type":"` + tooLong.Type + `"}`), 200, "decoding an event: unexpected EOF"},
		"a refusal":                       {encoded(runtime.ContentTypeProtobuf, expired), 410, "too old"},
		"a refusal in JSON":               {encoded(runtime.ContentTypeJSON, expired), 410, "too old"},
		"a refusal by somebody else":      {[]byte("<html>"), 502, "502 Bad Gateway"},
	}
}

// TestHostileStreams lets an HTTP server answer the watch with what it should not.
func TestHostileStreams(t *testing.T) {
	for name, tc := range hostileStreams() {
		t.Run(name, func(t *testing.T) {
			var asked string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("watch") == "" {
					w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
					_, _ = w.Write(encoded(runtime.ContentTypeProtobuf, &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "100"}}))
					return
				}
				asked = fmt.Sprint(r.URL.Path, " ", r.URL.Query().Get("resourceVersion"), " ", r.URL.Query().Get("fieldSelector"), " ", r.Header.Get("Accept"))
				w.WriteHeader(tc.code)
				_, _ = w.Write(tc.stream)
			}))
			defer server.Close()
			clients, err := clientset.New(&rest.Config{Host: server.URL}, server.Client())
			require.NoError(t, err)
			var said []string
			var watched error
			f := &streamReflector[*corev1.Secret, string, *corev1.SecretList]{
				source: NewStreamSource[*corev1.Secret](clients.Secrets("").List, clients.StreamSecrets, clients.Decoder()),
				narrow: clientset.ByName("x"), store: transcript(&said),
				answered: func(verb string, err error) {
					if verb == "watch" {
						watched = err
					}
				},
			}
			err = f.watchOnce(t.Context())
			require.ErrorContains(t, err, tc.want)
			assert.Equal(t, "/api/v1/secrets 100 metadata.name=x application/vnd.kubernetes.protobuf,application/json", asked)
			if tc.code != 200 {
				require.ErrorIs(t, watched, err, "it is told")
				assert.Equal(t, tc.code == 410, apierrors.IsResourceExpired(err))
			} else {
				require.NoError(t, watched)
			}
			want := []string{"all [] at 100, rewound false"}
			if errors.Is(err, errEndedEarly) && len(tc.stream) > 0 {
				want = append(want, "put x@101")
			}
			assert.Equal(t, want, said)
		})
	}
}
