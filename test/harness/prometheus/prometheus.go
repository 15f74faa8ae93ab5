// Package prometheus runs a real Prometheus on loopback, and its promtool.
package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tcr-assistant/tcr-assistant/test/harness/binaries"
	"github.com/tcr-assistant/tcr-assistant/test/harness/process"
)

// Find returns the path of prometheus or promtool: the one in PATH, or the one in the cache folder.
func Find(name string) (string, error) { return binaries.Find(name, "prometheus", "prometheus") }

// Promtool runs promtool with input and returns all that it prints.
func Promtool(ctx context.Context, input string, args ...string) (string, error) {
	path, err := Find("promtool")
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, path, args...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("running promtool %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Server is a running Prometheus, which scrapes and evaluates once a second.
type Server struct {
	address string
	targets string // path of the file that lists what to scrape
	command *exec.Cmd
	output  bytes.Buffer
	done    chan struct{}
}

// Start starts a Prometheus with the rules of a file. dir is for all that it writes.
func Start(ctx context.Context, dir, rules string) (*Server, error) {
	path, err := Find("prometheus")
	if err != nil {
		return nil, err
	}
	free, err := process.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	s := &Server{address: free[0], targets: filepath.Join(dir, "targets.json"), done: make(chan struct{})}
	config := fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: tests
    file_sd_configs: [{files: [%q]}]
`, rules, s.targets)
	if err := errors.Join(s.Scrape(nil), os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600)); err != nil {
		return nil, err
	}
	s.command = exec.Command(path,
		"--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+s.address,
		"--log.level=warn")
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	s.command.SysProcAttr = process.Attributes()
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("starting prometheus: %w", err)
	}
	go func() {
		_ = s.command.Wait() // what it says is in its output
		close(s.done)
	}()
	if err := s.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var ignored any
		err := s.get(ctx, "/api/v1/status/buildinfo", nil, &ignored)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("prometheus ended:\n%s", s.output.String())
		case <-ctx.Done():
			return fmt.Errorf("prometheus is not ready: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Scrape makes it scrape these addresses, by job, and no others. It notices within seconds.
func (s *Server) Scrape(targets map[string]string) error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := []group{}
	for job, address := range targets {
		groups = append(groups, group{[]string{address}, map[string]string{"job": job}})
	}
	text, err := json.Marshal(groups)
	if err != nil {
		return err
	}
	// Prometheus watches the folder: a file that is renamed into place is never read half.
	if err := os.WriteFile(s.targets+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(s.targets+".new", s.targets)
}

// Stop ends it.
func (s *Server) Stop() error {
	if err := s.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending prometheus: %w", err)
	}
	<-s.done
	return nil
}

// Sample is one series of an answer.
type Sample struct {
	Labels map[string]string
	Value  string
}

// Query evaluates an expression now and returns the series it yields.
func (s *Server) Query(ctx context.Context, expression string) ([]Sample, error) {
	var data struct {
		ResultType string
		Result     []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := s.get(ctx, "/api/v1/query", url.Values{"query": {expression}}, &data); err != nil {
		return nil, fmt.Errorf("asking for %s: %w", expression, err)
	}
	var samples []Sample
	for _, result := range data.Result {
		samples = append(samples, Sample{result.Metric, fmt.Sprint(result.Value[1])})
	}
	return samples, nil
}

// Firing returns the names of the alerts that fire, each once.
func (s *Server) Firing(ctx context.Context) (map[string]bool, error) {
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	if err := s.get(ctx, "/api/v1/alerts", nil, &data); err != nil {
		return nil, fmt.Errorf("asking for alerts: %w", err)
	}
	firing := map[string]bool{}
	for _, alert := range data.Alerts {
		if alert.State == "firing" {
			firing[alert.Labels["alertname"]] = true
		}
	}
	return firing, nil
}

func (s *Server) get(ctx context.Context, path string, query url.Values, data any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return nil
}
