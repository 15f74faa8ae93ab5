package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// TestCallersWhoReadNoAnswersDoNotEndTheManager has large reviews refused that callers send whose reading ends there.
func TestCallersWhoReadNoAnswersDoNotEndTheManager(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.runWith(manager.Options{Env: []string{inContainer}})
	w.Create("honest")
	w.Holds("default", "honest")
	long := strings.Repeat("<", 262144) // each may be repeated, twice, with six bytes
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","name":"a",
		"resource":{"group":"tcr.tencentcloudcr.com","version":"v1","resource":"imagepullsecrets"},"operation":"CREATE",
		"object":{"metadata":{"name":"a"},"spec":{"namespaces":"` + long + `","serviceAccounts":"` + long + `","docker":{"username":"u","password":"p","server":"r.io"}}}}}`
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		webhook.ValidatePath, len(review), review)

	ctx, end := context.WithTimeout(w.Ctx, 25*time.Second)
	defer end()
	var attacking sync.WaitGroup
	for i := range 300 {
		attacking.Go(func() {
			from := net.IPv4(127, 0, 1, byte(1+i%16))
			for ctx.Err() == nil {
				plain, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, "tcp", m.WebhookAddress)
				if err != nil {
					continue
				}
				_ = plain.(*net.TCPConn).SetReadBuffer(4 << 10)
				conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
				_, _ = io.WriteString(conn, request)
				select { // and nothing is read
				case <-ctx.Done():
				case <-time.After(13 * time.Second):
				}
				_ = plain.Close()
			}
		})
	}
	kernel := 0 // the most bytes that this side's sockets hold, which a container's memory counts too
	for range 10 {
		time.Sleep(2 * time.Second)
		_, port, _ := net.SplitHostPort(m.WebhookAddress)
		out, err := exec.CommandContext(w.Ctx, "ss", "-Htn", "sport", "=", ":"+port).Output()
		assert.NoError(t, err)
		sum := 0
		for line := range strings.Lines(string(out)) {
			queued, _ := strconv.Atoi(strings.Fields(line)[2])
			sum += queued
		}
		kernel = max(kernel, sum)
	}
	attacking.Wait()
	used := peak(t, m)
	t.Logf("the process held %d MiB at most, and its sockets %d MiB", used>>20, kernel>>20)
	assert.Less(t, used+kernel, containerLimit)
}
