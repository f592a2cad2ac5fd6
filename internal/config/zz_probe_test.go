package config
import ("testing";"fmt")
func TestProbe(t *testing.T){
 for _, f := range []string{
  "live: {api-key: hunter2hunter2}\n",
  "\"api-key\": hunter2\n",
  "live:\n  token: hunter2hunter2\n",
  "live:\n  E2B_API_KEY: hunter2\n",
  "# c\nlive:\n  api-url: http://u:hunter2@h\n",
  "target: lab\nprofil: core\n",
  "intervals:\n  create: soon\n",
  "intervals:\n  log-cap: 1s\n  create: 30\n",
  "intervals:\n",
  "intervals: {create: null}\n",
  "lab:\n",
  "lab: {recipes: }\n",
  "target:\n",
  "---\n",
  "null\n",
  "hello\n",
  "- a\n",
  "target: lab\n---\nprofil: x\n",
  "---\ntarget: lab\n",
  "lab: {recipes: {base: {flavour: busybox, init: delegated, envd: stand-in 0.6.13}, base: {flavour: busybox, init: delegated, envd: stand-in 0.6.13}}}\n",
  "intervals: {create: &x 80s, destroy: *x}\n",
  "intervals: {create: !!str 80s}\n",
  "intervals: {create: \"80s\"}\n",
  "intervals: {create: 80s} # c\n",
  "intervals:\n  create: |\n    80s\n",
  "lab: {templates: [base, base-unpatched]}\n",
  "lab: {templates: base}\n",
  "lab: {max-guests: many}\n",
  "lab: {max-guests: 2.5}\n",
  "lab: {max-guests: 99999999999999999999}\n",
  "lab: {recipes: {base: }}\n",
  "a: &a [*a]\n",
  "a: &a\n  b: *a\n",
  "x-y: 1\nTarget: lab\n",
  "target: lab\n  profile: core\n",
  "target: \"lab\n",
  "\ttarget: lab\n",
  "target: lab\r\nprofile: gate\r\n",
  "\xef\xbb\xbftarget: lab\n",
  "lab: {recipes: {mine: {rootfs: mine.ext4, kernel: vmlinux}}, templates: [mine]}\n",
  "templates: [{name: base, build-id: zzz}]\n",
  "profile: [core]\n",
 }{
  c, err := Load(Sources{Dir: tree(t, f)})
  fmt.Printf("=== %q\nerr: %v\n%v %v %+v\n   lab %+v\n", f, err, c.Target, c.Profile, c.Intervals, c.Lab)
 }
 c, err := Load(Sources{Dir: tree(t, ""), Environ: []string{key,"E2B_API_URL=http://x"}, Flags: Flags{Templates:"base"}})
 d,_ := c.Effective()
 fmt.Println(err, string(d))
}
