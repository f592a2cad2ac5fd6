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
	// are this test's.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox)
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
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, mostWait)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
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
	b.open(render(t, after, nil), wide, "light")
	b.do(chromedp.Click("#t1 .sandbox > summary"))
	b.picture("report-detail.png", "#t1 .sandbox", "#t1 .pair", tall)
	b.picture("report-witnesses.png", "#t1 .witnesses", "#t1 .witnesses", tall)
	b.open(render(t, after, &before), 390, "light")
	b.picture("report-narrow.png", "header", "#t1 .tree", 900)
	b.quiet()
}
