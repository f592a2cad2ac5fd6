package evidence

// Placement says where processes that envd starts really live. Each kind is
// nil where it was not tried.
type Placement struct {
	// Command is a command without a PTY, PTY one with; both report their own
	// /proc/self/cgroup, as do the command's child and its daemonised
	// grandchild (double fork, new session, its parent gone).
	Command    *Placed `json:"command,omitempty"`
	Child      *Placed `json:"child,omitempty"`
	Grandchild *Placed `json:"grandchild,omitempty"`
	PTY        *Placed `json:"pty,omitempty"`
	// Forwarder is the socat that envd's port scanner starts for a listener
	// on 127.0.0.1.
	Forwarder *Placed `json:"forwarder,omitempty"`
	// RealTime is what the kernel answered a command that asked for the policy
	// SCHED_FIFO: "granted", or the symbolic error. Under RT_GROUP_SCHED it is
	// refused in any group once the cpu controller is on (sched(7)).
	RealTime string `json:"realTime,omitempty"`
}

// Placed is one process that was provoked, or why there is none.
type Placed struct {
	Process *Process `json:"process,omitempty"`
	// Error says why nothing was seen, with the envd answer where there is
	// one.
	Error string `json:"error,omitempty"`
	// Infra is true when the error is of the way to the guest and not of the
	// guest.
	Infra bool `json:"infra,omitempty"`
}

// PlacementReport is what the probe prints in its placement mode: a part of
// Placement, from inside the guest.
type PlacementReport struct {
	Self       Process `json:"self"`
	Child      *Placed `json:"child,omitempty"`
	Grandchild *Placed `json:"grandchild,omitempty"`
	Forwarder  *Placed `json:"forwarder,omitempty"`
	RealTime   string  `json:"realTime,omitempty"`
}
