package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pin keeps this process to one core.
func pin(core int) error {
	var set unix.CPUSet
	set.Set(core % runtime.NumCPU())
	threads, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("pinning to a core: %w", err)
		}
	}
	return nil
}

// serve serves a handler over TLS as the product's server does, on the first core, until standard input ends. It prints its
// address, and for each line that it is sent what the process has done for its memory so far.
func serve(handler http.Handler) error {
	if err := pin(0); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2", "http/1.1"}},
	}
	fmt.Println(listener.Addr())
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			fmt.Println(stats.Mallocs, stats.NumGC)
		}
		_ = server.Close()
	}()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// server is a process that serves one of the handlers.
type server struct {
	command *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	address string
}

func start(name string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{command: exec.Command(self, "-serve="+name)}
	s.command.Stderr = os.Stderr
	if s.stdin, err = s.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	s.stdout = bufio.NewReader(stdout)
	line, err := s.stdout.ReadString('\n')
	s.address = strings.TrimSpace(line)
	return s, err
}

func (s *server) stop() error { return errors.Join(s.stdin.Close(), s.command.Wait()) }

// collected returns how many allocations the server has made so far, and how often it has collected garbage.
func (s *server) collected() (allocations, collections uint64, err error) {
	if _, err := fmt.Fprintln(s.stdin); err != nil {
		return 0, 0, err
	}
	_, err = fmt.Fscanln(s.stdout, &allocations, &collections)
	return allocations, collections, err
}

// processor returns the time that the server's threads have run.
func (s *server) processor() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime, in hundredths of a second
		one, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += one
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// load is how a server is asked.
type load struct {
	http2       bool
	connections int
	cold        bool // a connection for each request
	size        int
}

func (l load) String() string {
	protocol, kept := "HTTP/1.1", ""
	if l.http2 {
		protocol = "HTTP/2"
	}
	if l.cold {
		kept = ", cold"
	}
	return fmt.Sprintf("%s, %d connections%s", protocol, l.connections, kept)
}

// result is how a server has answered.
type result struct {
	took, used  time.Duration   // on the clock, and of the server's processor
	latencies   []time.Duration // sorted
	allocations uint64          // of the server, net/http's among them
	collections uint64          // of garbage
}

// join takes in another part of the same measurement.
func (r *result) join(part result) {
	r.took, r.used = r.took+part.took, r.used+part.used
	r.allocations, r.collections = r.allocations+part.allocations, r.collections+part.collections
	r.latencies = append(r.latencies, part.latencies...)
	slices.Sort(r.latencies)
}

func (r result) perSecond() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

// processor returns what the server spent on a request.
func (r result) processor() time.Duration { return r.used / time.Duration(len(r.latencies)) }

// each returns how much there was for each request.
func (r result) each(count uint64) float64 { return float64(count) / float64(len(r.latencies)) }

func (r result) percentile(thousandths int) float64 {
	return float64(r.latencies[min(len(r.latencies)*thousandths/1000, len(r.latencies)-1)].Microseconds()) / 1000
}

// put loads a server for that long: as fast as each connection goes, or at so many requests a second altogether. Connections
// that are kept stand before the time begins.
func (l load) put(s *server, during time.Duration, perSecond float64) (r result, err error) {
	// Who sleeps in the kernel must not keep those waiting who have an answer to read.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2*l.connections + 2))
	body := review(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, l.size)
	clients := make([]client, l.connections)
	for i := range clients {
		clients[i] = l.client(s.address, body)
		defer clients[i].close()
		if err := clients[i].ask(); err != nil {
			return result{}, fmt.Errorf("connecting to a server over %s: %w", l, err)
		}
	}
	allocations, collections, err := s.collected()
	if err != nil {
		return result{}, err
	}
	before, err := s.processor()
	if err != nil {
		return result{}, err
	}
	var mu sync.Mutex
	var errs []error
	var asking sync.WaitGroup
	began := time.Now()
	for i, client := range clients {
		asking.Go(func() {
			latencies, err := askUntil(began.Add(during), client, l.due(began, i, perSecond))
			mu.Lock()
			defer mu.Unlock()
			r.latencies, errs = append(r.latencies, latencies...), append(errs, err)
		})
	}
	asking.Wait()
	r.took = time.Since(began)
	after, err := s.processor()
	if err := errors.Join(append(errs, err)...); err != nil {
		return result{}, fmt.Errorf("loading a server over %s: %w", l, err)
	}
	r.used = after - before
	r.allocations, r.collections, err = s.collected()
	r.allocations, r.collections = r.allocations-allocations, r.collections-collections
	return r, err
}

// due returns what waits until the next request of a connection is due, and says when that was: evenly spaced among all
// connections, or, with no pace, now.
func (l load) due(began time.Time, connection int, perSecond float64) func() time.Time {
	if perSecond == 0 {
		return time.Now
	}
	pace := time.Duration(float64(time.Second) / perSecond)
	next := began.Add(pace * time.Duration(connection))
	return func() time.Time {
		due := next
		next = next.Add(pace * time.Duration(l.connections))
		// The runtime's timers are as fine as a millisecond, the kernel's are finer by far.
		if pause := time.Until(due); pause > 0 {
			timespec := unix.NsecToTimespec(pause.Nanoseconds())
			_ = unix.Nanosleep(&timespec, nil) // woken early, it asks early
		}
		return due
	}
}

// askUntil asks whenever it is due. A request's latency counts from then.
func askUntil(end time.Time, client client, due func() time.Time) (latencies []time.Duration, err error) {
	for began := due(); began.Before(end); began = due() {
		if err := client.ask(); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(began))
	}
	return latencies, nil
}

// serverGoals are the times between answers over those of controller-runtime, by size.
var serverGoals = map[int]float64{1 << 10: 1 / 1.4, 28 << 10: 1.0 / 3}

// compareServers measures both servers on one core, asked from the other.
func compareServers(all *figures, each time.Duration) (err error) {
	ours, err := start("product")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.stop()) }()
	theirs, err := start("controller-runtime")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.stop()) }()
	if err := pin(1); err != nil {
		return err
	}
	for _, size := range []int{1 << 10, 28 << 10} {
		for _, http2 := range []bool{true, false} {
			for _, l := range []load{{http2, 1, false, size}, {http2, 8, false, size}, {http2, 64, false, size}, {http2, 8, true, size}} {
				if err := compareUnder(all, l, ours, theirs, each); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// parts is into how many parts each measurement is cut, so that both servers meet the same spells of a busy machine.
const parts = 5 // odd

func compareUnder(all *figures, l load, ours, theirs *server, each time.Duration) error {
	var own, other result
	var half []float64 // the p99 of each part
	for range parts {
		for into, server := range map[*result]*server{&own: ours, &other: theirs} {
			part, err := l.put(server, each/parts, 0)
			if err != nil {
				return err
			}
			into.join(part)
		}
		part, err := l.put(ours, each/parts, own.perSecond()/2)
		if err != nil {
			return err
		}
		slices.Sort(part.latencies)
		half = append(half, part.percentile(990))
	}
	slices.Sort(half)
	benchmark := "admission over " + l.String()
	over := all.add(benchmark, "time per answer over controller-runtime", l.size, "x", other.perSecond()/own.perSecond())
	processor := all.add(benchmark, "processor time over controller-runtime", l.size, "x", own.processor().Seconds()/other.processor().Seconds())
	if !l.cold {
		over.atMost(serverGoals[l.size])
		processor.atMost(serverGoals[l.size])
	} else {
		over.atMost(1)
	}
	all.add(benchmark, "time per answer", l.size, "us", 1e6/own.perSecond())
	all.add(benchmark, "processor time", l.size, "us", own.processor().Seconds()*1e6)
	all.add(benchmark, "p50 at full load", l.size, "ms", own.percentile(500))
	all.add(benchmark, "p99 at full load", l.size, "ms", own.percentile(990))
	all.add(benchmark, "p99.9 at full load", l.size, "ms", own.percentile(999))
	all.add(benchmark, "p99 of controller-runtime at full load", l.size, "ms", other.percentile(990))
	all.add(benchmark, "allocations, net/http's among them", l.size, "allocs", own.each(own.allocations))
	all.add(benchmark, "garbage collections", l.size, "/10,000", 10_000*own.each(own.collections))
	// The middle one: a spell in which others have the core would be the p99 of all.
	paced := all.add(benchmark, "p99 at half load", l.size, "ms", half[parts/2])
	if !l.cold {
		paced.atMost(1)
	}
	return nil
}
