//go:build linux

package hostsd

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

const (
	vpcFound  = "hosts:\n- {domain: demo-vpc.tencentcloudcr.com, ip: 10.0.0.5}\n"
	vpcMoved  = "hosts:\n- {domain: demo-vpc.tencentcloudcr.com, ip: 10.0.0.6}\n"
	demoFound = "hosts:\n- {domain: demo.tencentcloudcr.com, ip: 10.0.0.7}\n"
	movedLine = "10.0.0.6 demo-vpc.tencentcloudcr.com " + Marker + "\n"
)

func TestDaemonFollowsWhatIsFound(t *testing.T) {
	r := start(t, write(t, ubuntuFile), demoConfig)
	r.becomes(t, demoLine+ubuntuFile)
	assert.False(t, r.Finds())
	assert.Zero(t, r.logged("kept last good configuration"), "there need not be anything")

	r.config.swap(t, demoConfig, vpcFound)
	r.becomes(t, vpcLine+demoLine+ubuntuFile)
	assert.True(t, r.Finds())

	r.config.swap(t, demoConfig, "no list")
	r.eventually(t, "told", func() bool { return r.logged("kept last good configuration") == 1 })
	r.becomes(t, vpcLine+demoLine+ubuntuFile)

	r.config.swap(t, demoConfig, demoFound)
	r.becomes(t, demoLine+ubuntuFile)
	r.shows(t, "tcr_hosts_overruled", "1")
	r.eventually(t, "told", func() bool { return r.logged("configuration overruled what was found") == 1 })
	assert.Contains(t, r.log.String(), "domain=demo.tencentcloudcr.com found=10.0.0.7")

	r.config.swap(t, demoConfig)
	r.shows(t, "tcr_hosts_overruled", "0")
	r.becomes(t, demoLine+ubuntuFile)
}

func TestLinesStayWhileItIsNotKnownWhatWasFound(t *testing.T) {
	const goneLine, publicLine = "10.0.0.4 gone.example.com " + Marker + "\n", "8.8.8.8 public.example.com " + Marker + "\n"
	for name, unread := range map[string]string{"it is no list": "no list", "it is empty": ""} {
		t.Run(name, func(t *testing.T) {
			r := start(t, write(t, publicLine+vpcLine+goneLine+ubuntuFile), demoConfig, unread)
			r.becomes(t, vpcLine+demoLine+goneLine+ubuntuFile)
			r.eventually(t, "told", func() bool { return r.logged("kept last good configuration") == 1 })
			r.config.swap(t, demoConfig, vpcFound)
			r.becomes(t, vpcLine+demoLine+ubuntuFile)
		})
	}
}

func TestWhatIsToldCountsUntilSomethingElseIsMounted(t *testing.T) {
	r := start(t, write(t, ubuntuFile), demoConfig)
	r.config.swap(t, demoConfig, vpcFound)
	r.becomes(t, vpcLine+demoLine+ubuntuFile)
	told := time.Now()
	r.Tell([]byte(vpcMoved))
	r.becomes(t, movedLine+demoLine+ubuntuFile)
	assert.Less(t, time.Since(told), soon)

	r.config.swap(t, "hosts: []", vpcFound)
	r.becomes(t, movedLine+ubuntuFile)
	r.Lose()
	r.config.swap(t, demoConfig, vpcFound)
	r.becomes(t, movedLine+demoLine+ubuntuFile)
	r.config.swap(t, demoConfig, demoFound)
	r.becomes(t, demoLine+ubuntuFile)

	r.Tell(nil)
	r.shows(t, "tcr_hosts_overruled", "0")
	r.config.swap(t, demoConfig, vpcFound)
	r.becomes(t, demoLine+ubuntuFile)
	r.Forget()
	r.becomes(t, vpcLine+demoLine+ubuntuFile)
}
