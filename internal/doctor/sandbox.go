package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sandproof/internal/collect"
	"sandproof/internal/sandboxapi"
	"sandproof/internal/sandboxapi/envd"
)

// nobody is a sandbox that does not exist, in the form of those that do: i and
// twenty letters and digits.
func nobody() string { return "i" + strings.ToLower(rand.Text()[:20]) }

// routeHop asks for a sandbox that does not exist: E2B's proxy says so.
func routeHop(o Options) hop {
	return hop{
		name: "proxy.route", tried: "ask for a sandbox that does not exist", needs: []string{"api.key"}, wait: o.Config.Intervals.Hop,
		try: func(ctx context.Context, f facts) (Finding, facts) {
			none := sandboxapi.Sandbox{SandboxID: nobody()}
			route, err := f.client.Route(none, sandboxapi.EnvdPort)
			if err != nil {
				return Finding{State: Unproven, Came: err.Error(), Do: "set E2B_SANDBOX_URL or E2B_DOMAIN, unless this API names the way with every sandbox (envdURL, domain)"}, f
			}
			status, err := health(ctx, envd.New(envd.Options{Route: route, UserAgent: agent(o)}))
			found := judgeRoute(status, err)
			if unanswered(err) {
				found = through(found, route.BaseURL)
			}
			found.Tried = "GET /health of a sandbox that does not exist, " + way(route)
			return found, f
		},
	}
}

// unanswered tells whether neither a sandbox nor E2B's proxy answered.
func unanswered(err error) bool {
	e, ok := errors.AsType[*envd.Error](err)
	return ok && e.Where == envd.AtNetwork
}

func health(ctx context.Context, client *envd.Client) (int, error) {
	defer client.Close()
	return client.Health(ctx)
}

// way is a route for people.
func way(r envd.Route) string {
	if r.Host == "" {
		return "at " + r.BaseURL
	}
	return fmt.Sprintf("at %s with Host: %s", r.BaseURL, r.Host)
}

// leftOut is the finding of what needs a sandbox, where none may be made.
func leftOut(what string) Finding {
	return Finding{State: Unproven, Came: "left out by --no-sandbox: " + what + " is not proven", Do: "run sandproof doctor without --no-sandbox"}
}

func sandboxHops(o Options, session string) []hop {
	waits := o.Config.Intervals
	if o.NoSandbox {
		return []hop{{
			name: "sandbox.create", tried: "create a sandbox", wait: waits.Hop,
			try: func(_ context.Context, f facts) (Finding, facts) {
				return leftOut("that a sandbox starts, that its envd is reached, and that it runs commands and takes files"), f
			},
		}}
	}
	needs := []string{"api.key"}
	return []hop{
		{name: "sandbox.create", tried: "create a sandbox", needs: needs, wait: waits.Create, try: func(ctx context.Context, f facts) (Finding, facts) {
			return create(ctx, o, f, session)
		}},
		{name: "sandbox.address", tried: "find the way to the sandbox", needs: []string{"sandbox.create"}, wait: waits.Hop, try: sandboxAddress},
		{name: "sandbox.envd", tried: "ask the sandbox's envd for its health", needs: []string{"sandbox.address"}, wait: waits.EnvdReady, try: func(ctx context.Context, f facts) (Finding, facts) {
			return askEnvd(ctx, o, f)
		}},
		{name: "sandbox.command", tried: "run a command in the sandbox as root", needs: []string{"sandbox.envd"}, wait: waits.Command, try: func(ctx context.Context, f facts) (Finding, facts) {
			return runCommand(ctx, waits.Command, f), f
		}},
		{name: "sandbox.file", tried: "write a file in the sandbox and read it again", needs: []string{"sandbox.envd"}, wait: waits.Command, try: func(ctx context.Context, f facts) (Finding, facts) {
			return writeFile(ctx, f), f
		}},
	}
}

func create(ctx context.Context, o Options, f facts, session string) (Finding, facts) {
	if f.usable == "" {
		return Finding{State: NotTried, Came: "none of the configured templates can be used"}, f
	}
	ttl := o.Config.Intervals.SandboxTTL
	seconds := int32(ttl.Seconds())
	sandbox, err := f.client.Create(ctx, sandboxapi.NewSandbox{TemplateID: f.usable, Timeout: &seconds, Metadata: map[string]string{
		collect.MetadataRun: "doctor", collect.MetadataProcess: "doctor", collect.MetadataVersion: o.Harness, collect.MetadataSession: session,
		collect.MetadataExpires: strconv.FormatInt(time.Now().Add(ttl).Unix(), 10),
	}})
	tried := "create a sandbox of template " + f.usable
	if err != nil {
		found := judgeCreate(err)
		found.Tried = tried
		return found, f
	}
	f.sandbox = &sandbox
	return Finding{State: Fine, Tried: tried, Came: fmt.Sprintf("sandbox %s, envd %s by the API's record; it ends by itself after %s", sandbox.SandboxID, sandbox.EnvdVersion, ttl)}, f
}

// sandboxAddress finds the way to the sandbox, and looks its host up where it
// has one of its own.
func sandboxAddress(ctx context.Context, f facts) (Finding, facts) {
	route, err := f.client.Route(*f.sandbox, sandboxapi.EnvdPort)
	if err != nil {
		return Finding{State: Trouble, Came: err.Error(), Do: "set E2B_SANDBOX_URL to the client-proxy (port 3002 in local installations), or E2B_DOMAIN"}, f
	}
	client, err := f.client.Envd(*f.sandbox)
	if err != nil {
		return Finding{State: Trouble, Came: err.Error()}, f
	}
	f.envd = client
	u, err := url.Parse(route.BaseURL)
	if err != nil {
		return Finding{State: Trouble, Came: err.Error(), Do: "check E2B_SANDBOX_URL"}, f
	}
	if _, _, proxy, err := endpoint(route.BaseURL); err == nil && proxy != nil {
		return byProxy(proxy), f
	}
	if net.ParseIP(u.Hostname()) != nil {
		return Finding{State: Fine, Came: "no name to look up: " + way(route)}, f
	}
	found := lookUp(ctx, u.Hostname(), toSandboxes)
	found.Came += ", " + way(route)
	return found, f
}

// askEnvd asks until envd answers or the time is over: an orchestrator gives a
// sandbox out once its envd is there, so what is awaited is the way.
func askEnvd(ctx context.Context, o Options, f facts) (Finding, facts) {
	tick := time.NewTicker(o.Config.Intervals.Poll)
	defer tick.Stop()
	var last error
	for {
		status, err := f.envd.Health(ctx)
		if err == nil {
			found := Finding{State: Fine, Came: strconv.Itoa(status)}
			if status/100 != 2 {
				found = Finding{State: Trouble, Came: fmt.Sprintf("envd answers %d", status), Do: "envd answers 204 when it is well: run make e2e, which looks at the guest"}
			}
			return found, f
		}
		if last == nil || ctx.Err() == nil {
			last = err // the end of the time hides what was wrong
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			found := judgeWay(last)
			if route, err := f.client.Route(*f.sandbox, sandboxapi.EnvdPort); err == nil && unanswered(last) {
				found = through(found, route.BaseURL)
			}
			return found, f
		}
	}
}

// What the command prints proves that a shell ran it: it is nowhere in the
// command itself.
const (
	sumCommand = "echo sandproof-$((6*7))"
	sum        = "sandproof-42\n"
)

func runCommand(ctx context.Context, lifetime time.Duration, f facts) Finding {
	tried := fmt.Sprintf("run /bin/sh -c %q as root in sandbox %s", sumCommand, f.sandbox.SandboxID)
	result, err := f.envd.Run(ctx, envd.Command{Path: "/bin/sh", Args: []string{"-c", sumCommand}, User: "root", Dir: "/", Lifetime: lifetime, OutputLimit: mostBody})
	if err != nil {
		found := judgeWay(err)
		found.Tried = tried
		if e, ok := errors.AsType[*envd.Error](err); ok && e.Where == envd.AtEnvd {
			found.Do = "envd cannot start commands in this template, which is what make e2e explains"
		}
		return found
	}
	if string(result.Stdout) != sum || result.ExitCode != 0 {
		return Finding{
			State: Trouble, Tried: tried, Came: fmt.Sprintf("%s, output %.100q %.200q", result.Status, result.Stdout, result.Stderr),
			Do: "envd cannot run commands in this template as it should (127: nice or ionice is missing), which is what make e2e explains",
		}
	}
	return Finding{State: Fine, Tried: tried, Came: strings.TrimSpace(sum) + ", exit status 0"}
}

func writeFile(ctx context.Context, f facts) Finding {
	path := "/tmp/sandproof-doctor"
	content := []byte(rand.Text())
	tried := fmt.Sprintf("write %s in sandbox %s, and read it", path, f.sandbox.SandboxID)
	if err := f.envd.WriteFile(ctx, "root", path, content); err != nil {
		found := judgeWay(err)
		found.Tried = tried
		if e, ok := errors.AsType[*envd.Error](err); ok && e.Where == envd.AtEnvd {
			found.Do = "the guest's /tmp cannot be written: is its disk full or read-only? Without uploads the guest probe cannot run"
		}
		return found
	}
	back, err := f.envd.ReadFile(ctx, "root", path, mostBody)
	switch {
	case err != nil:
		found := judgeWay(err)
		found.Tried = tried
		return found
	case !bytes.Equal(back, content):
		return Finding{State: Trouble, Tried: tried, Came: fmt.Sprintf("%d other bytes came back", len(back)), Do: "a proxy changes bodies, or caches answers: let it pass /files as it is"}
	}
	return Finding{State: Fine, Tried: tried, Came: fmt.Sprintf("the same %d bytes", len(back))}
}

// end ends what was made, in time of its own: also where the doctor is
// interrupted.
func end(ctx context.Context, o Options, f facts, session string, before []Finding) []Finding {
	var all []Finding
	add := func(found Finding, began time.Time) {
		found.TookMS = time.Since(began).Milliseconds()
		all = append(all, found)
	}
	if f.envd != nil {
		f.envd.Close()
	}
	tried := slices.ContainsFunc(before, func(found Finding) bool {
		return found.Hop == "sandbox.create" && (found.State == Fine || found.State == Trouble)
	})
	if tried {
		began := time.Now()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Config.Intervals.Destroy)
		add(destroy(bounded, o, f, session, collect.LostWait), began)
		cancel()
	}
	if f.stopLab != nil {
		began := time.Now()
		found := Finding{Hop: "lab.stop", State: Fine, Tried: "stop the lab", Came: "it has ended"}
		if err := f.stopLab(context.WithoutCancel(ctx)); err != nil {
			found.State, found.Came, found.Do = Trouble, err.Error(), "look for QEMU processes that are left"
		}
		add(found, began)
	}
	return all
}

// destroy ends the sandbox, and looks that none of this doctor is left. Only a list
// tells: to a delete the server answers that there is none while its store is
// down, too.
func destroy(ctx context.Context, o Options, f facts, session string, wait time.Duration) Finding {
	found := Finding{Hop: "sandbox.end", State: Fine, Tried: "end the sandbox, and look whether one is left"}
	fail := func(err error) Finding {
		found.State, found.Came = Trouble, err.Error()
		found.Do = "it ends by itself after " + o.Config.Intervals.SandboxTTL.String() + "; end it with: e2b sandbox kill ID"
		return found
	}
	if f.sandbox != nil {
		if _, err := f.client.Delete(ctx, f.sandbox.SandboxID); err != nil {
			return fail(err)
		}
	}
	tick := time.NewTicker(o.Config.Intervals.Poll)
	defer tick.Stop()
	seen := f.sandbox != nil
	for last := time.Now().Add(wait); ; {
		left, err := f.client.List(ctx, map[string]string{collect.MetadataSession: session})
		for _, s := range left {
			_, deleted := f.client.Delete(ctx, s.SandboxID)
			err = errors.Join(err, deleted)
		}
		if len(left) > 0 && !seen {
			seen, last = true, time.Now().Add(wait)
		}
		late := time.Now().After(last)
		switch {
		case err != nil:
			return fail(err)
		case f.sandbox != nil && len(left) == 0:
			found.Came = "sandbox " + f.sandbox.SandboxID + " has ended, none is left"
			return found
		case seen && len(left) == 0:
			found.Came = "the create call that failed had made one after all; it has ended"
			return found
		case late && len(left) > 0:
			return fail(fmt.Errorf("sandbox %s is still listed", left[0].SandboxID))
		case late:
			found.Came = "the create call that failed made none"
			return found
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fail(ctx.Err())
		}
	}
}
