package chaos

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/tcr-assistant/tcr-assistant/test/harness/cluster"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

var replicaNames = [2]string{"A", "B"}

const lease = "tcr-assistant-leader-election"

// replicas are two managers, each behind a proxy of its own, that are started again when they end, as a kubelet does.
type replicas struct {
	cluster *cluster.Cluster
	client  kubernetes.Interface // the administrator's
	binary  string
	journal *journal
	proxies [2]*proxy
	files   [2]string // kubeconfigs
	webhook net.Listener

	processes context.Context // of the replicas themselves
	ctx       context.Context // of what starts them again and leads to them
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu      sync.Mutex
	current [2]*manager.Manager
	doomed  [2]bool // its end was asked for
	away    [2]time.Duration
	ended   []*manager.Manager
	faults  []string // what no replica may do
}

func startReplicas(
	ctx context.Context, c *cluster.Cluster, client kubernetes.Interface, binary, dir string, seed uint64, journal *journal,
) (*replicas, error) {
	rs := &replicas{cluster: c, client: client, binary: binary, journal: journal, processes: ctx}
	rs.ctx, rs.cancel = context.WithCancel(ctx)
	who, err := c.KubeconfigFor(manager.User, "system:serviceaccounts", "system:serviceaccounts:"+manager.Namespace, "system:authenticated")
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", who)
	if err != nil {
		return nil, err
	}
	upstream, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	if rs.webhook, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	rs.running.Go(rs.forward)
	for i, name := range replicaNames {
		rs.proxies[i] = newProxy(name, seed, journal, upstream, config.Host)
		rs.files[i] = filepath.Join(dir, name+".kubeconfig")
		if err := os.WriteFile(rs.files[i], kubeconfig(rs.proxies[i]), 0o600); err != nil {
			return nil, errors.Join(err, rs.end())
		}
		if err := rs.start(i); err != nil {
			return nil, errors.Join(err, rs.end())
		}
		rs.running.Go(func() { rs.supervise(i) })
	}
	return rs, nil
}

// kubeconfig names a proxy, and nobody: the proxy knows whose it is.
func kubeconfig(p *proxy) []byte {
	const name = "chaos"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   p.server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}),
	}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name}
	config.CurrentContext = name
	text, err := clientcmd.Write(*config)
	if err != nil {
		panic(err) // it is the same for every seed
	}
	return text
}

func (rs *replicas) start(which int) error {
	m, err := manager.Start(rs.processes, rs.cluster, manager.Options{
		Binary: rs.binary, Kubeconfig: rs.files[which], WebhookURL: "https://" + rs.webhook.Addr().String(),
	})
	if err != nil {
		return err
	}
	rs.journal.note(replicaNames[which], "replica started as process %d", m.Pid())
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.current[which] = m
	return nil
}

// supervise starts a replica again whenever it has ended. One that ends by itself is told of.
func (rs *replicas) supervise(which int) {
	for {
		rs.mu.Lock()
		m := rs.current[which]
		rs.mu.Unlock()
		select {
		case <-m.Done():
		case <-rs.ctx.Done():
			return
		}
		rs.mu.Lock()
		asked, away := rs.doomed[which], rs.away[which]
		rs.doomed[which], rs.away[which] = false, 0
		rs.ended = append(rs.ended, m)
		if !asked {
			lines := strings.Split(strings.TrimSpace(m.Log()), "\n")
			rs.faults = append(rs.faults, fmt.Sprintf("replica %s ended by itself: %s", replicaNames[which], lines[len(lines)-1]))
			away = 500 * time.Millisecond
		}
		rs.mu.Unlock()
		rs.journal.note(replicaNames[which], "replica ended, asked for: %t", asked)
		pause(rs.ctx, away)
		if rs.ctx.Err() != nil {
			return
		}
		if err := rs.start(which); err != nil {
			rs.mu.Lock()
			rs.faults = append(rs.faults, err.Error())
			rs.mu.Unlock()
			return
		}
	}
}

// dooms returns a replica that has not been told to end yet; nil where it has.
func (rs *replicas) dooms(which int, away time.Duration) *manager.Manager {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	m := rs.current[which]
	select {
	case <-m.Done():
		return nil
	default:
	}
	if rs.doomed[which] {
		return nil
	}
	rs.doomed[which], rs.away[which] = true, away
	return m
}

// kill ends a replica without notice, and may let the other one lead at once.
func (rs *replicas) kill(ctx context.Context, which int, free bool, away time.Duration) error {
	m := rs.dooms(which, away)
	if m == nil {
		return nil
	}
	if err := m.Kill(); err != nil {
		return err
	}
	if free {
		return rs.freeLease(ctx)
	}
	return nil
}

// stop ends a replica in order; the script does not wait for it.
func (rs *replicas) stop(which int) error {
	if m := rs.dooms(which, 0); m != nil {
		rs.running.Go(func() {
			if err := m.Stop(); err != nil {
				rs.mu.Lock()
				defer rs.mu.Unlock()
				rs.faults = append(rs.faults, fmt.Sprintf("replica %s did not end in order: %v", replicaNames[which], err))
			}
		})
	}
	return nil
}

// freeLease takes the name of a holder that is no more away: nobody is to wait until its Lease has run out.
func (rs *replicas) freeLease(ctx context.Context) error {
	leases := rs.client.CoordinationV1().Leases(manager.Namespace)
	return persist(ctx, func(ctx context.Context) error {
		held, err := leases.Get(ctx, lease, metav1.GetOptions{})
		if err != nil {
			return unlessGone(err)
		}
		if holder := held.Spec.HolderIdentity; holder == nil || *holder == "" || rs.lives(*holder) {
			return nil
		}
		rs.journal.note("user", "free the lease of a dead replica")
		patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"spec":{"holderIdentity":""}}`, held.ResourceVersion)
		_, err = leases.Patch(ctx, lease, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return unlessGone(err)
	})
}

// steady returns nil once no replica is about to end: from now on none does.
func (rs *replicas) steady() error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for i, doomed := range rs.doomed {
		if doomed {
			return fmt.Errorf("replica %s is about to end", replicaNames[i])
		}
	}
	return nil
}

// lives reports whether a replica that runs goes by that name. One whose answer got lost may hold the Lease without having said so
// yet: it loses it then, as it would to any administrator.
func (rs *replicas) lives(identity string) bool {
	rs.mu.Lock()
	current := rs.current
	rs.mu.Unlock()
	for _, m := range current {
		select {
		case <-m.Done():
		default:
			if strings.Contains(m.Log(), identity) {
				return true
			}
		}
	}
	return false
}

// ready returns nil once both replicas are ready.
func (rs *replicas) ready(ctx context.Context) error {
	rs.mu.Lock()
	current := rs.current
	rs.mu.Unlock()
	for i, m := range current {
		if answer, err := m.Get(ctx, "/readyz"); err != nil {
			return fmt.Errorf("replica %s is not ready: %w: %s", replicaNames[i], err, strings.TrimSpace(answer))
		}
	}
	return nil
}

// all returns every replica that there was.
func (rs *replicas) all() []*manager.Manager {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	all := rs.ended[:len(rs.ended):len(rs.ended)]
	for _, m := range rs.current {
		if m != nil {
			all = append(all, m)
		}
	}
	return all
}

// found returns what replicas did that none may do.
func (rs *replicas) found() []string {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.faults
}

// end ends everything, in order as far as that goes, and says what did not.
func (rs *replicas) end() error {
	rs.cancel()
	errs := []error{rs.webhook.Close()}
	rs.running.Wait() // from now on none is started
	for i, m := range rs.current {
		if m == nil {
			continue
		}
		select {
		case <-m.Done():
		default:
			if err := m.Stop(); err != nil {
				errs = append(errs, fmt.Errorf("replica %s did not end in order: %w", replicaNames[i], err))
			}
		}
	}
	for _, p := range rs.proxies {
		if p != nil {
			p.stop()
		}
	}
	return errors.Join(errs...)
}

// forward passes connections of the API server on to a replica that runs, as a Service does. It does not ask whether that one
// is ready.
func (rs *replicas) forward() {
	for next := 0; ; next++ {
		client, err := rs.webhook.Accept()
		if err != nil {
			return
		}
		rs.running.Go(func() {
			defer client.Close()
			for i := range rs.current {
				rs.mu.Lock()
				m := rs.current[(next+i)%len(rs.current)]
				rs.mu.Unlock()
				if m == nil {
					continue
				}
				server, err := net.Dial("tcp", m.WebhookAddress)
				if err != nil {
					continue
				}
				join(rs.ctx, client, server)
				return
			}
		})
	}
}

// join passes on what two connections say to each other until either ends.
func join(ctx context.Context, client, server net.Conn) {
	defer server.Close()
	both := func() { client.Close(); server.Close() }
	defer context.AfterFunc(ctx, both)()
	var pipes sync.WaitGroup
	for _, pipe := range [][2]net.Conn{{client, server}, {server, client}} {
		pipes.Go(func() {
			_, _ = io.Copy(pipe[0], pipe[1]) // either side may end it
			both()
		})
	}
	pipes.Wait()
}
