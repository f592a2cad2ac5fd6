package verdict

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"sandproof/internal/evidence"
)

var update = flag.Bool("update", false, "write the screenshots of docs/images anew")

// browser is a headless Chromium with one page, and what went wrong in it.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps its page in a context

	mu       sync.Mutex
	trouble  []string
	document string
}

// newBrowser starts a Chromium that ends with the test. One that is not
// installed is a failure: what is not looked at is not shown to be harmless.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("the browser is left out of short tests")
	}
	// In a container there is no name space for Chromium's own sandbox; the pages
	// are this test's. The allocator's own directory for the user's data is removed
	// once nothing of Chromium is left that writes to it.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancelPage := chromedp.NewContext(allocator)
	t.Cleanup(cancelPage)
	b := &browser{t: t, ctx: ctx}
	// The first use starts the browser, which lives as long as this context.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium, which make test-deps installs: %v", err)
	}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	must(b, network.Enable, network.EnableParams{})
	must(b, log.Enable, cdp.Empty{})
	return b
}

// mostWait bounds what is done in the page.
const mostWait = 60 * time.Second

// must sends a command of the protocol.
func must[P, R any](b *browser, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, mostWait)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// do acts in the page as a user does.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, mostWait)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval is what an expression gives in the page.
func eval[T any](b *browser, expression string, options ...chromedp.EvaluateOption) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, mostWait)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, options...))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// hear keeps everything that a harmless page never does.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := func(format string, args ...any) { b.trouble = append(b.trouble, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Request.URL != b.document {
			said("request for %.200s", e.Request.URL)
		}
	case *log.EventEntryAdded:
		said("the browser's log: %s", e.Entry.Text)
	case *runtime.EventConsoleAPICalled:
		said("console.%s", e.Type)
	case *runtime.EventExceptionThrown:
		said("exception: %s", e.ExceptionDetails.Text)
	case *page.EventJavascriptDialogOpening:
		said("dialog: %s", e.Message)
		go func() { // a listener may not send a command itself
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	case *page.EventWindowOpen:
		said("window: %s", e.URL)
	}
}

// heard is the trouble since it was last asked for.
func (b *browser) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	trouble := b.trouble
	b.trouble = nil
	return trouble
}

// quiet fails for everything that was heard.
func (b *browser) quiet() {
	b.t.Helper()
	for _, trouble := range b.heard() {
		b.t.Error(trouble)
	}
}

// open shows a page from a file, as a user does.
func (b *browser) open(html string, width int64, scheme string) {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(html), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	b.document = (&url.URL{Scheme: "file", Path: file}).String()
	b.mu.Unlock()
	const height = 900
	must(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	must(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	b.do(chromedp.Navigate(b.document), chromedp.WaitReady("#catalogue"))
}

// mostPicture is how large a screenshot may be, in bytes: they are in the
// repository.
const mostPicture = 300_000

// picture takes a screenshot of a part of the page, from the top of one element
// to the bottom of another, and writes it where -update is given.
func (b *browser) picture(name, from, to string, most float64) {
	b.t.Helper()
	const margin = 12.0
	top := eval[float64](b, fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().top + scrollY", from))
	bottom := eval[float64](b, fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().bottom + scrollY", to))
	width := eval[float64](b, "document.documentElement.clientWidth")
	top = max(0, top-margin)
	beyond := true
	shot := must(b, page.CaptureScreenshot, page.CaptureScreenshotParams{
		Clip: &page.Viewport{Y: top, Width: width, Height: min(bottom+margin-top, most), Scale: 1}, CaptureBeyondViewport: &beyond,
	}).Data
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		b.t.Fatalf("the screenshot %s: %v", name, err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, picture); err != nil {
		b.t.Fatal(err)
	}
	if small.Len() > mostPicture {
		b.t.Errorf("the screenshot %s has %d bytes, want up to %d", name, small.Len(), mostPicture)
	}
	if !*update {
		return
	}
	dir := filepath.Join("..", "..", "docs", "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), small.Bytes(), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// sampledRun is a run of one recorded guest that was sampled over time.
func sampledRun(t *testing.T) Report {
	t.Helper()
	return reportedRun("after-patch", []string{"base"}, map[string]*evidence.Sandbox{"base": seen(t, "base-sampled", "base")})
}

// The page of recorded runs, as docs/report.md shows it.
func TestReportPictures(t *testing.T) {
	b := newBrowser(t)
	before, after := sampleRuns(t)
	const wide, tall = 1280, 1500.0
	for _, scheme := range []string{"light", "dark"} {
		b.open(render(t, before, nil), wide, scheme)
		b.picture("report-"+scheme+".png", "header", "#t1 .tree", tall)
	}
	b.open(render(t, after, &before), wide, "light")
	b.do(chromedp.Click("#only-changes"))
	b.picture("report-changes.png", "header", "#t1 .tree", 1000)
	b.open(render(t, sampledRun(t), nil), wide, "light")
	b.do(chromedp.Click("#t1 .sandbox > summary"))
	b.picture("report-detail.png", "#t1 .sandbox", "#t1 .block:has(+ .pair)", tall)
	b.picture("report-time.png", "#t1 .pair", "#t1 .pair", tall)
	b.picture("report-witnesses.png", "#t1 .witnesses", "#t1 .witnesses", tall)
	b.quiet()
}

// Nothing that a guest or a log says runs, loads or opens anything.
func TestHostileReportInBrowser(t *testing.T) {
	b := newBrowser(t)
	evil := saying(t, hostile)
	b.open(render(t, evil, &evil), 1280, "light")
	b.do(chromedp.Evaluate[chromedp.Void](`for (const d of document.querySelectorAll('details')) d.open = true`))
	if kind := eval[string](b, "typeof window.pwned"); kind != "undefined" {
		t.Errorf("a script of the guest ran: window.pwned is a %s", kind)
	}
	if n := eval[int](b, "document.scripts.length"); n != 1 {
		t.Errorf("the page has %d scripts, want its own", n)
	}
	b.quiet()

	// The ears are not deaf, and the page's policy stops what gets in all the same.
	b.do(chromedp.Evaluate[chromedp.Void](`document.body.insertAdjacentHTML('beforeend', '<img src="http://127.0.0.1:9/x" onerror="window.pwned=1">')`))
	b.do(chromedp.Evaluate[chromedp.Void](`{ const s = document.createElement('script'); s.textContent = 'window.pwned = 2'; document.body.append(s); }`))
	b.do(chromedp.Evaluate[chromedp.Void](`new Promise(done => setTimeout(done, 200))`, chromedp.EvalAwaitPromise))
	if kind := eval[string](b, "typeof window.pwned"); kind != "undefined" {
		t.Error("the policy lets a script through that is not the page's own")
	}
	if heard := strings.Join(b.heard(), "\n"); !strings.Contains(heard, "Content Security Policy") {
		t.Errorf("what the policy stopped was not heard: %q", heard)
	}
}

// focused names the element that has the focus.
const focused = `(e => (e.id ? '#' + e.id : e.tagName.toLowerCase() + ' ' + (e.getAttribute('href') || e.textContent.trim())))(document.activeElement)`

// tabTo presses Tab until an element has the focus.
func (b *browser) tabTo(want string) {
	b.t.Helper()
	const most = 400
	for range most {
		b.do(chromedp.KeyEvent(kb.Tab))
		if strings.HasPrefix(eval[string](b, focused), want) {
			return
		}
	}
	b.t.Fatalf("the key Tab never leads to %q", want)
}

// visibleRows counts the rows of the matrix that can be seen.
const visibleRows = `[...document.querySelectorAll('.matrix tbody tr')].filter(r => r.offsetParent !== null).length`

// pressed is what the button with the focus says once it says something else than
// before it was pressed.
const pressed = `new Promise(done => {
  const button = document.activeElement;
  const look = () => button.textContent === 'Copy' ? setTimeout(look, 20) : done(button.textContent);
  look();
})`

// Everything is reached and used with the keyboard alone.
func TestReportByKeyboard(t *testing.T) {
	b := newBrowser(t)
	before, after := sampleRuns(t)
	b.open(render(t, after, &before), 1280, "light")

	b.do(chromedp.KeyEvent(kb.Tab))
	if got := eval[string](b, focused); got != "a #matrix" {
		t.Errorf("the first Tab leads to %q, want the link that skips to the matrix", got)
	}
	b.tabTo("#only-changes")
	if outline := eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"); outline != "solid" {
		t.Errorf("the focus is shown by an outline that is %q", outline)
	}
	for _, step := range []struct {
		key, pressed string
		rows         int
	}{{kb.Enter, "true", 2}, {" ", "false", 5}} {
		b.do(chromedp.KeyEvent(step.key))
		pressed := eval[string](b, "document.activeElement.getAttribute('aria-pressed')")
		if rows := eval[int](b, visibleRows); pressed != step.pressed || rows != step.rows {
			t.Errorf("after the key %q the toggle is %s with %d rows, want %s with %d", step.key, pressed, rows, step.pressed, step.rows)
		}
	}

	// A cell leads to its stage, also where that lies in something closed.
	b.tabTo("a #t1-enable")
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#t1-enable"))
	if got := eval[string](b, focused); got != "#t1-enable" {
		t.Errorf("the link of a cell leads to %q", got)
	}
	// The one cell of a hidden row shows it again.
	b.do(chromedp.Click("#only-changes"))
	b.do(chromedp.Evaluate[chromedp.Void]("location.hash = '#t4-value'"), chromedp.WaitVisible("#t4-value"))

	b.open(render(t, before, nil), 1280, "light")
	b.tabTo("button Copy")
	b.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(".command button"))
	if got := eval[string](b, pressed, chromedp.EvalAwaitPromise); got != "Copied" && got != "Selected" {
		t.Errorf("the button that copies the command says %q", got)
	}
	b.tabTo("summary Absent evidence")
	b.do(chromedp.KeyEvent(kb.Enter))
	if !eval[bool](b, "document.activeElement.parentElement.open") {
		t.Error("the key Enter does not open what is closed")
	}
	b.quiet()
}

// contrasts lists texts with less contrast than people need (WCAG 2.2, 1.4.3:
// 4.5 to 1), by the colours that the browser computed.
const contrasts = `(() => {
  const rgb = c => c.match(/[\d.]+/g).map(Number);
  const lum = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = new Set();
  for (const e of document.querySelectorAll('.mark, .hint, figcaption, .canvas span, .legend li, .absent, .note, .notice, th, td, dt, dd, a, code, button, p, h1, h2')) {
    const [a, b] = [lum(rgb(getComputedStyle(e).color)), lum(behind(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.add(e.tagName + '.' + e.className + ' ' + ((a + 0.05) / (b + 0.05)).toFixed(2));
  }
  return [...bad];
})()`

// The page can be read in both colour schemes, on a narrow screen, on paper,
// and without its script.
func TestReportIsReadable(t *testing.T) {
	b := newBrowser(t)
	before, after := sampleRuns(t)
	page := render(t, after, &before)
	const background = "getComputedStyle(document.body).backgroundColor"
	colours := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.open(page, 1280, scheme)
		colours[scheme] = eval[string](b, background)
		for _, bad := range eval[[]string](b, contrasts) {
			t.Errorf("%s: too little contrast: %s", scheme, bad)
		}
	}
	if colours["light"] == colours["dark"] {
		t.Errorf("the page is %s whatever people prefer", colours["light"])
	}
	sampled := render(t, sampledRun(t), nil)
	for _, width := range []int64{1280, 390} {
		b.open(sampled, width, "dark")
		b.do(chromedp.Evaluate[chromedp.Void](`for (const d of document.querySelectorAll('details')) d.open = true`))
		if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
			t.Errorf("with samples a page of %d pixels is %d too wide", width, over)
		}
		if small := eval[int](b, "[...document.querySelectorAll('.canvas svg')].filter(s => s.clientWidth < 200 || s.clientHeight < 60).length"); small > 0 {
			t.Errorf("on a page of %d pixels %d charts are too small to be read", width, small)
		}
		for _, bad := range eval[[]string](b, contrasts) {
			t.Errorf("with samples: too little contrast: %s", bad)
		}
		b.open(page, width, "light")
		if over := eval[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
			t.Errorf("a page of %d pixels is %d too wide", width, over)
		}
	}
	must(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	if eval[bool](b, "document.querySelector('#raw').offsetParent !== null || document.querySelector('#only-changes').offsetParent !== null") {
		t.Error("the raw evidence and the buttons are printed")
	}
	must(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open(page, 1280, "light")
	if eval[bool](b, "document.querySelector('#only-changes').offsetParent !== null || document.querySelector('.command button') !== null") {
		t.Error("without a script there are buttons that do nothing")
	}
	b.do(chromedp.Click("#t4 .sandbox > summary"), chromedp.WaitVisible("#t4 .tree"))
	b.quiet()
}
