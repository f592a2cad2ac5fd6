package evidence

import (
	"errors"
	"fmt"
	"slices"
)

// ResumedBefore tells whether the guest had booted before the sandbox was
// asked for: E2B resumes most sandboxes from a snapshot. It compares the
// guest's uptime with the time that passed on the harness's own clock, since
// the guest's clock may be set wrong.
func (s *Sandbox) ResumedBefore() (resumed bool, why string, err error) {
	const slack = 2.0 // seconds; clocks of guest and host run apart a little
	if s.Snapshot.Received.IsZero() || s.API.Requested.IsZero() || s.Snapshot.Boot.UptimeSeconds == 0 {
		return false, "", errors.New("the guest's uptime or the time of the create call is not known, so it is open whether the guest was resumed")
	}
	elapsed := s.Snapshot.Received.Sub(s.API.Requested).Seconds()
	if s.Snapshot.Boot.UptimeSeconds <= elapsed+slack {
		return false, "", nil
	}
	return true, fmt.Sprintf("the guest has been up for %.0f s and the sandbox was asked for %.0f s ago", s.Snapshot.Boot.UptimeSeconds, elapsed), nil
}

// IsConsole tells whether a descriptor's target is a console device, whose
// lines reach the orchestrator's log when the boot lines do.
func IsConsole(target string) bool {
	return slices.Contains([]string{"/dev/ttyS0", "/dev/console", "/dev/hvc0", "/dev/ttyAMA0"}, target)
}
