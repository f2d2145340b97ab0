package itemsize

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

func TestSizesFollowThePublishedRules(t *testing.T) {
	s := func(v string) types.AttributeValue { return &types.AttributeValueMemberS{Value: v} }
	n := func(v string) types.AttributeValue { return &types.AttributeValueMemberN{Value: v} }
	for name, c := range map[string]struct {
		value types.AttributeValue
		want  int
	}{
		"string in UTF-8":      {s("aé"), 3},
		"zero":                 {n("0"), 1},
		"one digit":            {n("7"), 2},
		"trailing zeros":       {n("700"), 2},
		"three digits":         {n("123"), 3},
		"negative":             {n("-12"), 3},
		"fraction":             {n("0.0012"), 2},
		"exponent":             {n("12E+30"), 2},
		"split pairs":          {n("1230"), 3},
		"split pairs, small":   {n("82480"), 4},
		"split by an exponent": {n("12e1"), 3},
		"split fraction":       {n("0.12"), 2},
		"split fraction, odd":  {n("0.012"), 3},
		"full length":          {n(strings.Repeat("9", 38)), 20},
		"negative full length": {n("-" + strings.Repeat("9", 38)), 21},
		"leading zeros":        {n("+0007"), 2},
		"binary":               {&types.AttributeValueMemberB{Value: []byte{0, 1, 2}}, 3},
		"bool":                 {&types.AttributeValueMemberBOOL{Value: true}, 1},
		"null":                 {&types.AttributeValueMemberNULL{Value: true}, 1},
		"string set":           {&types.AttributeValueMemberSS{Value: []string{"ab", "c"}}, 3},
		"number set":           {&types.AttributeValueMemberNS{Value: []string{"1", "123"}}, 5},
		"binary set":           {&types.AttributeValueMemberBS{Value: [][]byte{{1}, {2, 3}}}, 3},
		"empty list":           {&types.AttributeValueMemberL{}, 3},
		"list":                 {&types.AttributeValueMemberL{Value: []types.AttributeValue{s("a"), n("1")}}, 3 + 2 + 1 + 2},
		"map with a long name": {&types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"name": s("x")}}, 3 + 1 + 4 + 1},
	} {
		got, err := Of(map[string]types.AttributeValue{"k": c.value})
		require.NoError(t, err, name)
		require.Equal(t, c.want+1, got, name)
	}
}

func TestWhatIsNoItemIsAnError(t *testing.T) {
	_, err := Of(map[string]types.AttributeValue{"k": nil})
	require.ErrorContains(t, err, `attribute "k": no attribute value, but <nil>`)
	_, err = Of(map[string]types.AttributeValue{"k": &types.AttributeValueMemberL{Value: []types.AttributeValue{nil}}})
	require.Error(t, err)

	for _, unset := range []types.AttributeValue{
		(*types.AttributeValueMemberS)(nil), (*types.AttributeValueMemberN)(nil), (*types.AttributeValueMemberB)(nil), (*types.AttributeValueMemberBOOL)(nil),
		(*types.AttributeValueMemberNULL)(nil), (*types.AttributeValueMemberSS)(nil), (*types.AttributeValueMemberNS)(nil), (*types.AttributeValueMemberBS)(nil),
		(*types.AttributeValueMemberL)(nil), (*types.AttributeValueMemberM)(nil),
	} {
		_, err := Of(map[string]types.AttributeValue{"k": unset})
		require.ErrorContainsf(t, err, "no attribute value, but a nil", "%T", unset)
	}

	var deep types.AttributeValue = &types.AttributeValueMemberS{Value: strings.Repeat("x", 3)}
	for range 40 {
		deep = &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"d": deep}}
	}
	_, err = Of(map[string]types.AttributeValue{"k": deep})
	require.ErrorContains(t, err, "nested deeper than 32 levels")
}
