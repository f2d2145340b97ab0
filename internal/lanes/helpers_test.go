package lanes

// runner is a function as a Runner.
type runner func(int) bool

func (r runner) Do(i int) Next {
	if r(i) {
		return GoOn
	}
	return GiveUp
}

// Run runs one batch to its end.
func (p *Pool) Run(keys []uint64, do func(int) bool) {
	var b Batch
	p.Start(&b, keys, runner(do))
	b.Wait(nil)
}
