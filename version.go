package outbox

import "runtime/debug"

// module is the path of this module.
const module = "github.com/seed-1b628d3f/outbox"

// version is the release of the library in this program, as the build recorded it. It is "" if the build did not record it, or if the
// library comes from a directory.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return versionIn(info)
}

func versionIn(info *debug.BuildInfo) string {
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		switch {
		case m.Path != module:
		case m.Replace != nil:
			return m.Replace.Version // of a fork, or "" for a directory
		default:
			return m.Version
		}
	}
	return ""
}
