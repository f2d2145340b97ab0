package ordermodel

// deliverByMark is how a version without positions works.
func (p *proc) deliverByMark(n int) bool {
	w := p.w
	return p.call("commit … with its mark", n, func() any {
		if !w.mark.has(n) {
			w.mark = w.mark.with(n)
			w.apply(n, -1)
		}
		return ""
	}) == nil
}

// keeps reports whether the process writes marks beside positions.
func (p *proc) keeps() bool { return p.w.keep && !p.conf.plain }

func (p *proc) looksAtMark(n int) (marked bool, err error) {
	err = p.call("look at the mark of", n, func() any { marked = p.w.mark.has(n); return marked })
	return marked, err
}

// moveOver moves a position alone over what is marked.
func (p *proc) moveOver(n int, at position) {
	p.memory = nil
	_ = p.call("move to", n, func() any {
		if p.w.pos.seq == at.seq && p.w.pos.began == at.began {
			p.w.pos = p.w.pos.moved(n)
		}
		return ""
	})
}
