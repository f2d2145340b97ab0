package outbox

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheVersionOfTheLibraryInAProgram(t *testing.T) {
	other, this := debug.Module{Path: "example.com/shop", Version: "v9.9.9"}, debug.Module{Path: module, Version: "v0.1.0"}
	require.Equal(t, "v0.1.0", versionIn(&debug.BuildInfo{Main: other, Deps: []*debug.Module{{Path: module + "/cmd/outbox", Version: "v8.8.8"}, &this}}))
	require.Equal(t, "v0.1.0", versionIn(&debug.BuildInfo{Main: this}))
	require.Equal(t, "v0.1.1-fork", versionIn(&debug.BuildInfo{Main: other, Deps: []*debug.Module{{Path: module, Version: "v0.1.0", Replace: &debug.Module{Path: "example.com/fork", Version: "v0.1.1-fork"}}}}))
	require.Empty(t, versionIn(&debug.BuildInfo{Main: other, Deps: []*debug.Module{{Path: module, Version: "v0.1.0", Replace: &debug.Module{Path: "../outbox"}}}}), "a directory")
	require.Empty(t, versionIn(&debug.BuildInfo{Main: other}))
}
