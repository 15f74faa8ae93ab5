package webhook

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// TestAnAnswerTakesNoMoreThanItsReview holds how long refusals are, which repeat entries of the review, twice and escaped: whoever
// reads no answers has this side hold them.
func TestAnAnswerTakesNoMoreThanItsReview(t *testing.T) {
	handler := Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready)
	review := func(list string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","name":"a",
		"resource":{"group":"tcr.tencentcloudcr.com","version":"v1","resource":"imagepullsecrets"},"operation":"CREATE",
		"object":{"metadata":{"name":"a"},"spec":{"namespaces":"` + list + `","docker":{"username":"u","password":"p","server":"r.io"}}}}}`
	}
	for _, fill := range []string{"<", "\u00ad", "\\\\"} {
		for _, size := range []int{63 << 10, 262144} {
			body := review(strings.Repeat(fill, size/len(fill)))
			recorder := ask(t, handler, ValidatePath, body)
			assert.Equal(t, http.StatusOK, recorder.Code)
			t.Logf("%q: review of %d bytes, answer of %d", fill, len(body), recorder.Body.Len())
			assert.Less(t, recorder.Body.Len(), 2*len(body))
		}
	}
	t.Run("nor more than is always written", func(t *testing.T) {
		list := strings.Repeat(strings.Repeat("<", 253)+",", 20)
		body := strings.Replace(review(list), `"docker"`, `"serviceAccounts":"`+list+`","docker"`, 1)
		body = strings.Replace(body, `"name":"a"`, `"name":"`+strings.Repeat("<", 253)+`"`, 2)
		body = strings.Replace(body, "r.io", "<://"+strings.Repeat("<", 500), 1)
		recorder := ask(t, handler, ValidatePath, body)
		assert.Contains(t, recorder.Body.String(), "spec.docker.server")
		assert.Less(t, recorder.Body.Len(), smallBody)
	})
}

// unreading is a ResponseWriter whose reader never reads.
type unreading struct {
	*httptest.ResponseRecorder
	writing, ended chan struct{}
}

func (u *unreading) Write([]byte) (int, error) {
	u.writing <- struct{}{}
	<-u.ended
	return 0, io.ErrClosedPipe
}

func TestLargeAnswersAreCountedUntilTheyAreWritten(t *testing.T) {
	in := newIntake()
	size := maxLarge/3 + 1
	large := serve(quiet, in, decodeAccountReview, func(*http.Request, accountRequest) (string, response) {
		return "u", response{warnings: []string{strings.Repeat("w", size)}}
	})
	post := func(w http.ResponseWriter) {
		large(w, httptest.NewRequest(http.MethodPost, MutatePath, strings.NewReader(accountReview("team", `{"metadata":{"name":"a"}}`))))
	}
	ended := make(chan struct{})
	var unread sync.WaitGroup
	for range 2 {
		w := &unreading{httptest.NewRecorder(), make(chan struct{}), ended}
		unread.Go(func() { post(w) })
		<-w.writing
	}
	refused := httptest.NewRecorder()
	post(refused)
	assert.Equal(t, http.StatusServiceUnavailable, refused.Code, "there is no room for a third")
	close(ended)
	unread.Wait()
	assert.Zero(t, in.large.Load())
	answered := httptest.NewRecorder()
	post(answered)
	assert.Equal(t, http.StatusOK, answered.Code)
}

func TestWarningsAreNotMoreThanAClientShows(t *testing.T) {
	index := pullsecret.NewIndex()
	for i := range 30 {
		object := imagePullSecret(fmt.Sprintf("other-%d", i), "*")
		object.Spec.Docker.Server = "r.io"
		index.Put(object)
	}
	review := reviewOf("CREATE", `{"metadata":{"name":"a"},"spec":{"docker":{"username":"u","password":"p","server":"r.io"}}}`, "null")
	warnings := answer(t, ask(t, Handler(quiet, index, nil, ready), ValidatePath, review)).Warnings
	assert.Len(t, warnings, maxWarnings+1)
	assert.Equal(t, "20 more warnings are not shown", warnings[maxWarnings])
}
