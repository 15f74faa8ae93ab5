package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// drain says whether this replica is shutting down.
type drain struct{ begun atomic.Bool }

func (d *drain) begin() { d.begun.Store(true) }

func (d *drain) err() error {
	if d.begun.Load() {
		return errors.New("this replica is shutting down")
	}
	return nil
}

// servers holds the servers of the process, and the sockets that they listen on.
type servers struct {
	webhook, metrics, pprof *http.Server

	webhooks  net.Listener // nil if there is no webhook
	scraping  net.Listener
	profiling net.Listener // nil if no profiles are served
}

// listen opens the sockets, so that a port in use is reported before anything else happens.
func listen(
	log *slog.Logger, o *options, admission, metrics http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error),
	ready func() error,
) (*servers, error) {
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	s := &servers{
		webhook: webhook.NewServer(admission, certificate, errorLog),
		metrics: &http.Server{
			Handler:  observability(metrics, ready),
			ErrorLog: errorLog,
			// Callers are not authenticated here either.
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    16 << 10,
		},
		pprof: &http.Server{Handler: profiles(), ErrorLog: errorLog, ReadHeaderTimeout: 10 * time.Second},
	}
	var err error
	if o.webhook {
		if s.webhooks, err = net.Listen("tcp", o.webhookBind); err != nil {
			return nil, fmt.Errorf("listening for admission requests (--webhook-bind-address=%s): %w", o.webhookBind, err)
		}
		s.webhooks = webhook.Guard(s.webhooks)
	}
	if s.scraping, err = net.Listen("tcp", o.metricsBind); err != nil {
		return nil, errors.Join(fmt.Errorf("listening for scrapes and probes (--metrics-bind-address=%s): %w", o.metricsBind, err), s.close())
	}
	s.scraping = webhook.Guard(s.scraping)
	if o.pprofBind != "" {
		if s.profiling, err = net.Listen("tcp", o.pprofBind); err != nil {
			return nil, errors.Join(fmt.Errorf("listening for profiles (--pprof-bind-address=%s): %w", o.pprofBind, err), s.close())
		}
	}
	return s, nil
}

// close closes the sockets that are open.
func (s *servers) close() error {
	var errs []error
	for _, listener := range []net.Listener{s.webhooks, s.scraping, s.profiling} {
		if listener != nil {
			errs = append(errs, listener.Close())
		}
	}
	return errors.Join(errs...)
}

// serve starts the servers. If one fails, its error is sent to the channel.
func (s *servers) serve(running *sync.WaitGroup) <-chan error {
	failed := make(chan error, 3)
	if s.webhooks != nil {
		running.Go(func() {
			if err := s.webhook.ServeTLS(s.webhooks, "", ""); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving admission requests: %w", err)
			}
		})
	}
	running.Go(func() {
		if err := s.metrics.Serve(s.scraping); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serving scrapes and probes: %w", err)
		}
	})
	if s.profiling != nil {
		running.Go(func() {
			if err := s.pprof.Serve(s.profiling); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serving profiles: %w", err)
			}
		})
	}
	return failed
}

// shutdown answers the requests under way, and closes the servers.
func (s *servers) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// A profile under way is cut short: the process ends without waiting for it.
	return errors.Join(s.webhook.Shutdown(ctx), s.metrics.Shutdown(ctx), s.pprof.Close())
}

// profiles serves the profiles of Go's runtime.
func profiles() http.Handler {
	router := chi.NewRouter()
	router.Get("/debug/pprof/profile", pprof.Profile)
	router.Get("/debug/pprof/trace", pprof.Trace)
	router.Get("/debug/pprof/*", pprof.Index)
	return router
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
