package integration

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// picturesVariable names a directory into which the pictures of the page are written: docs, to renew them.
const picturesVariable = "OUTBOX_PICTURES"

// pictureScale makes the pictures sharp on screens with more pixels.
const pictureScale = 1.5

// violation is a rule of axe-core that a page breaks.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct{ HTML, FailureSummary string }
}

// axe checks a page with all rules of axe-core.
func (p *tab) axe(rules string) {
	p.t.Helper()
	evaluate[bool](p, rules+"; true")
	checked := evaluate[struct {
		Passes     int
		Violations []violation
	}](p, `axe.run().then((r) => ({ passes: r.passes.length, violations: r.violations }))`)
	require.Greater(p.t, checked.Passes, 10, "hardly any rule applied")
	for _, v := range checked.Violations {
		for _, n := range v.Nodes {
			p.t.Errorf("%s (%s): %s\n%s\n%s", v.ID, v.Impact, v.Help, n.HTML, n.FailureSummary)
		}
	}
}

// showAll brings a page to show one of everything: an order, a duplicate, and a poison order.
func (p *tab) showAll() {
	p.t.Helper()
	p.click("#place button")
	p.awaitShown("the order arrives", func(s shown) bool { return len(s.Orders) == 1 && s.Orders[0].Events[0].arrived() })
	p.click("#again")
	p.awaitShown("the duplicate is suppressed", func(s shown) bool { return s.Counts["duplicates"] == "1" })
	p.click("#poison")
	p.awaitShown("the poison order waits", func(s shown) bool { return s.Counts["waiting"] == "3" })
	p.await("all of it is told", `document.getElementById("news").children.length === 5 && news.length === 0`)
}

func accessibility(t *testing.T, b browser) {
	path := os.Getenv(axeVariable)
	require.NotEmptyf(t, path, "%s names no axe.min.js; integration/run installs it, and sets it", axeVariable)
	rules, err := os.ReadFile(path)
	require.NoError(t, err)
	_, url := b.service(t)
	p := b.open(t, url, look{still: true})
	p.axe(string(rules)) // nothing has happened yet
	p.showAll()
	for _, l := range []look{{}, {width: 390, dark: true}} {
		l.still = true
		p.look(l)
		p.axe(string(rules))
		require.LessOrEqual(t, evaluate[int](p, `document.documentElement.scrollWidth - innerWidth`), 0, "the page is wider than the screen")
	}
	plain := b.open(t, url, look{scriptOff: true})
	plain.click("#place button")
	plain.await("the answer is a page", `document.querySelector("h1").textContent === "Order placed"`)
	call(plain, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{}) // the rules are JavaScript
	plain.do(chromedp.Reload())
	plain.axe(string(rules))
}

// The pictures of the README are made here, so that they are what the page looks like.
func pictures(t *testing.T, b browser) {
	_, url := b.service(t)
	p := b.open(t, url, look{still: true})
	p.showAll()
	for name, l := range map[string]look{"page.png": {still: true}, "page-dark.png": {still: true, dark: true}} {
		p.look(l)
		evaluate[bool](p, `document.activeElement.blur(); scrollTo(0, 0); true`)
		height := evaluate[float64](p, `document.querySelector("main").getBoundingClientRect().bottom + 8`)
		beyond := true
		picture := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &beyond,
			Clip: &page.Viewport{Width: 1280, Height: height, Scale: pictureScale}}).Data
		shot, err := png.Decode(bytes.NewReader(picture))
		require.NoError(t, err)
		require.EqualValues(t, 1280*pictureScale, shot.Bounds().Dx())
		var small bytes.Buffer
		require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(shot)))
		picture = small.Bytes()
		require.Less(t, len(picture), 200<<10, "too large for a README")
		require.NoError(t, os.WriteFile(filepath.Join(os.Getenv(picturesVariable), name), picture, 0o644))
		t.Logf("%s: %d bytes", name, len(picture))
	}
}

// fewColours is a picture with its 256 most frequent colours, and the nearest of these in place of the others. Most of a page needs
// no more, and it takes a third of the bytes.
func fewColours(shot image.Image) image.Image {
	often := map[color.Color]int{}
	b := shot.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			often[shot.At(x, y)]++
		}
	}
	palette := color.Palette(slices.SortedFunc(maps.Keys(often), func(a, b color.Color) int { return often[b] - often[a] }))
	palette = palette[:min(len(palette), 256)]
	nearest := map[color.Color]uint8{}
	for c := range often {
		nearest[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(b, palette)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			out.SetColorIndex(x, y, nearest[shot.At(x, y)])
		}
	}
	return out
}
