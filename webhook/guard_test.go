package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestManyAddressesDoNotDriveOutAnAPIServer has an API server keep its 25 connections, which are the most from one address where
// others have 15 from each of 20.
func TestManyAddressesDoNotDriveOutAnAPIServer(t *testing.T) {
	unused := httptest.NewUnstartedServer(nil)
	unused.StartTLS()
	certificate := unused.TLS.Certificates[0]
	unused.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := NewServer(Handler(quiet, indexOf(imagePullSecret("r", "*")), nil, ready), func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }, log.New(io.Discard, "", 0))
	go func() { _ = server.ServeTLS(Guard(listener), "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	address := listener.Addr().String()

	review := accountReview("team", `{"metadata":{"name":"a"}}`)
	post := func(client *http.Client) error {
		response, err := client.Post(fmt.Sprintf("https://%s%s", address, MutatePath), "application/json", strings.NewReader(review))
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		return response.Body.Close()
	}
	var kept []*http.Client // each of one connection
	for range 25 {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		require.NoError(t, post(client))
		t.Cleanup(client.CloseIdleConnections)
		kept = append(kept, client)
	}

	ctx, end := context.WithTimeout(t.Context(), 12*time.Second)
	defer end()
	var running sync.WaitGroup
	for i := range 20 {
		for range 15 {
			running.Go(func() {
				dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i))}}
				for ctx.Err() == nil {
					conn, err := (&tls.Dialer{NetDialer: dialer, Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
					if err != nil {
						continue
					}
					stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
					_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // 404: it has been answered
					_, _ = io.Copy(io.Discard, conn)
					stop()
					_ = conn.Close()
				}
			})
		}
	}
	var asked, failed atomic.Int64
	var first sync.Once
	for _, client := range kept {
		running.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if err := post(client); err != nil {
					failed.Add(1)
					first.Do(func() { t.Log(err) })
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	running.Wait()
	t.Logf("%d of %d honest requests failed", failed.Load(), asked.Load())
	assert.Zero(t, failed.Load())
}
