package deployment

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// tree reads evaluated properties. The first mistake stays in problems; what is read after it is empty.
type tree struct {
	at       string
	value    any
	problems *[]error
}

func (t tree) fail(format string, args ...any) {
	*t.problems = append(*t.problems, fmt.Errorf("%s: %s", t.at, fmt.Sprintf(format, args...)))
}

func (t tree) get(names ...string) tree {
	for _, name := range names {
		at := t.at + "." + name
		if m, ok := t.value.(map[string]any); ok {
			t = tree{at, m[name], t.problems}
		} else {
			if t.value != nil {
				t.fail("want an object, have %T", t.value)
			}
			t = tree{at, nil, t.problems}
		}
	}
	return t
}

func (t tree) text() string {
	switch v := t.value.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool, int, float64:
		return fmt.Sprint(v)
	}
	t.fail("want a string, have %T", t.value)
	return ""
}

func (t tree) number() float64 {
	if t.value == nil {
		return 0
	}
	n, err := strconv.ParseFloat(t.text(), 64)
	if err != nil {
		t.fail("want a number, have %q", t.text())
	}
	return n
}

func (t tree) int() int { return int(t.number()) }

func (t tree) bool() bool { return t.text() == "true" }

// list returns the elements, or the only one.
func (t tree) list() []tree {
	switch v := t.value.(type) {
	case nil:
		return nil
	case []any:
		all := make([]tree, len(v))
		for i := range v {
			all[i] = tree{fmt.Sprintf("%s[%d]", t.at, i), v[i], t.problems}
		}
		return all
	}
	return []tree{t}
}

func (t tree) texts() (all []string) {
	for _, e := range t.list() {
		all = append(all, e.text())
	}
	return all
}

func (t tree) textMap() map[string]string {
	all := make(map[string]string)
	for _, name := range t.names() {
		all[name] = t.get(name).text()
	}
	return all
}

func (t tree) names() []string {
	m, _ := t.value.(map[string]any)
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// only fails for properties that nobody reads: what is not compared must not be there.
func (t tree) only(names ...string) {
	for _, name := range t.names() {
		if !slices.Contains(names, name) {
			t.fail("the contract test does not know the property %s", name)
		}
	}
}

// policy reads the grants of a policy document.
func (t tree) policy() (grants []Grant) {
	if text, ok := t.value.(string); ok {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.fail("no policy: %v", err)
			return nil
		}
		t.value = v
	}
	t.only("Version", "Statement")
	for _, s := range t.get("Statement").list() {
		s.only("Effect", "Action", "Resource")
		if effect := s.get("Effect").text(); effect != "Allow" {
			s.fail("the effect is %q", effect)
		}
		actions, resources := s.get("Action").texts(), s.get("Resource").texts()
		if len(actions) == 0 || len(resources) == 0 {
			s.fail("a statement needs actions and resources")
		}
		for _, action := range actions {
			for _, resource := range resources {
				exact := resource
				if strings.HasPrefix(action, "logs:") {
					exact = strings.TrimSuffix(resource, ":*") // the streams of a log group
				}
				if action == listStreams {
					exact = strings.TrimSuffix(resource, "*")
				}
				if strings.Contains(action+exact, "*") {
					s.fail("a wildcard: %s on %s", action, resource)
				}
				grants = append(grants, Grant{action, resource})
			}
		}
	}
	return grants
}

// trusted reads who may take a role.
func (t tree) trusted() (services []string) {
	if text, ok := t.value.(string); ok {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.fail("no policy: %v", err)
			return nil
		}
		t.value = v
	}
	for _, s := range t.get("Statement").list() {
		s.only("Effect", "Principal", "Action")
		if s.get("Effect").text() != "Allow" || s.get("Action").text() != "sts:AssumeRole" {
			s.fail("want Allow of sts:AssumeRole")
		}
		s.get("Principal").only("Service")
		services = append(services, s.get("Principal", "Service").texts()...)
	}
	return services
}

// query reads the metric of a query of CloudWatch Metrics Insights.
func (t tree) query() (m Metric) {
	words := strings.Fields(strings.NewReplacer("(", " ", ")", " ").Replace(t.text()))
	if len(words) != 9 || words[0] != "SELECT" || words[3] != "FROM" || words[5] != "WHERE" || words[7] != "=" {
		t.fail("want SELECT F(metric) FROM namespace WHERE dimension = value, have %s", t.text())
		return m
	}
	statistics := map[string]string{"SUM": "Sum", "MAX": "Maximum"}
	return Metric{strings.Trim(words[4], `"`), words[2], words[6], strings.Trim(words[8], "'"), statistics[words[1]]}
}
