package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// checkDeadLetters tells whose dead letters wait, and which consumers the table knows.
func (x *examination) checkDeadLetters(ctx context.Context) {
	const check = "dead letters"
	if x.deadLetters == "" || !x.checkOther(ctx, deadLettersSpec, x.deadLetters) {
		return
	}
	letters, all, err := knownConsumers(ctx, x.c.dynamodb, x.deadLetters)
	if err != nil {
		x.failed(gradeUnknown, check, x.deadLetters, "dynamodb:Scan", err)
		return
	}
	least := ""
	if !all {
		least = "at least "
	}
	waiting := 0
	for _, consumer := range slices.Sorted(maps.Keys(letters)) {
		if n := letters[consumer]; n > 0 {
			waiting++
			x.add(gradeWarning, check, x.deadLetters, fmt.Sprintf("%s%s of %s, and what comes of their aggregates waits behind", least, count(n, "letter"), consumer),
				x.named("dead", "list", "--table", x.deadLetters, "--consumer", consumer)+"; cure the cause, then redrive")
		}
	}
	switch {
	case !all:
		x.add(gradeUnknown, check, x.deadLetters, "the table has more rows than doctor reads", "count with "+x.named("dead", "list", "--table", x.deadLetters, "--consumer", "C"))
	case waiting > 0:
	case len(letters) == 0:
		x.add(gradeOK, check, x.deadLetters, "no letters, and no consumer has had any", "")
	default:
		x.add(gradeOK, check, x.deadLetters, "no letters; consumers that have had some: "+knownList(letters), "")
	}
}
