package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// drain says whether this replica is on its way out.
type drain struct{ begun atomic.Bool }

func (d *drain) begin() { d.begun.Store(true) }

func (d *drain) err() error {
	if d.begun.Load() {
		return errors.New("this replica is shutting down")
	}
	return nil
}

// servers are the two servers of the process, each with the socket it listens on.
type servers struct {
	webhook, metrics   *http.Server
	webhooks, scraping net.Listener
}

// listen opens both sockets, so that a port in use is told before anything else happens.
func listen(log *slog.Logger, o *options, admission, metrics http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), ready func() error) (*servers, error) {
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	s := &servers{
		webhook: &http.Server{
			Handler:           admission,
			ErrorLog:          errorLog,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			// Above the 90 s after which the API server closes an idle connection: it must never write into one that
			// this side has just closed.
			IdleTimeout: 2 * time.Minute,
			TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"h2", "http/1.1"}},
		},
		metrics: &http.Server{
			Handler:           observability(metrics, ready),
			ErrorLog:          errorLog,
			ReadHeaderTimeout: 10 * time.Second,
		},
	}
	var err error
	if s.webhooks, err = net.Listen("tcp", o.webhookBind); err != nil {
		return nil, fmt.Errorf("listening for admission requests (--webhook-bind-address=%s): %w", o.webhookBind, err)
	}
	if s.scraping, err = net.Listen("tcp", o.metricsBind); err != nil {
		return nil, errors.Join(fmt.Errorf("listening for scrapes and probes (--metrics-bind-address=%s): %w", o.metricsBind, err), s.webhooks.Close())
	}
	return s, nil
}

// serve starts both servers; the channel gets the error of one that fails.
func (s *servers) serve(running *sync.WaitGroup) <-chan error {
	failed := make(chan error, 2)
	running.Go(func() {
		if err := s.webhook.ServeTLS(s.webhooks, "", ""); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving admission requests: %w", err)
		}
	})
	running.Go(func() {
		if err := s.metrics.Serve(s.scraping); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving scrapes and probes: %w", err)
		}
	})
	return failed
}

// shutdown answers what is under way and closes the servers.
func (s *servers) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(s.webhook.Shutdown(ctx), s.metrics.Shutdown(ctx))
}

func observability(metrics http.Handler, ready func() error) http.Handler {
	router := chi.NewRouter()
	router.Method(http.MethodGet, "/metrics", metrics)
	router.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	router.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return router
}
