package integration

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// query reads the items with pk = "1" that meet more, on all pages.
func (c clients) query(t *trial, table, more string, values item, change ...func(*dynamodb.QueryInput)) []item {
	t.Helper()
	in := &dynamodb.QueryInput{TableName: &table, KeyConditionExpression: aws.String("pk = :pk" + more), ExpressionAttributeValues: item{":pk": s("1")}}
	for k, v := range values {
		in.ExpressionAttributeValues[k] = v
	}
	for _, f := range change {
		f(in)
	}
	var out []item
	pages := dynamodb.NewQueryPaginator(c.DynamoDB, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoErrorf(t, err, "query with %q", more)
		out = append(out, page.Items...)
	}
	return out
}

// numbered is a table with pk "1" and these numbers as sort keys, and some of another pk.
func (c clients) numbered(t *trial, numbers ...string) string {
	t.Helper()
	table := c.table(t, "pk:S sk:N")
	c.put(t, table, item{"pk": s("0"), "sk": n(1)}, item{"pk": s("2"), "sk": n(1)})
	for i, number := range numbers {
		c.put(t, table, item{"pk": s("1"), "sk": n(number), "even": yes(i%2 == 0), "i": n(i)})
	}
	return table
}

var queryCases = []testCase{
	{"queries: numbers are ordered as numbers, both ways", onTables, func(t *trial, c clients) {
		want := []string{"-100", "-20.5", "-3", "0", "0.001", "2", "10", "10.5", "1000000000000000000000000"}
		table := c.numbered(t, "10", "2", "0", "-3", "1000000000000000000000000", "-20.5", "10.5", "-100", "0.001")
		require.Equal(t, want, column(c.query(t, table, "", nil), "sk"))
		backward := c.query(t, table, "", nil, func(in *dynamodb.QueryInput) { in.ScanIndexForward = aws.Bool(false) })
		slices.Reverse(want)
		require.Equal(t, want, column(backward, "sk"))
	}},
	{"queries: strings are ordered by their UTF-8 bytes", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:S")
		for _, k := range []string{"\U0001F600", "b", "a", "A", "\uFFFD", "aa", "é"} {
			c.put(t, table, item{"pk": s("1"), "sk": s(k)})
		}
		require.Equal(t, []string{"A", "a", "aa", "b", "é", "\uFFFD", "\U0001F600"}, column(c.query(t, table, "", nil), "sk"))
	}},
	{"queries: binary is ordered by unsigned bytes", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:B")
		for i, k := range []string{"\x80", "\x01", "\xff", "\x01\x00", "\x7f"} {
			c.put(t, table, item{"pk": s("1"), "sk": b(k), "i": n(i)})
		}
		require.Equal(t, []string{"1", "3", "4", "0", "2"}, column(c.query(t, table, "", nil), "i"))
	}},
	{"queries: every condition on the sort key", onTables, func(t *trial, c clients) {
		table := c.numbered(t, "1", "2", "3", "4")
		for more, want := range map[string][]string{
			" AND sk = :a": {"2"}, " AND sk < :a": {"1"}, " AND sk <= :a": {"1", "2"}, " AND sk > :a": {"3", "4"}, " AND sk >= :a": {"2", "3", "4"},
		} {
			require.Equalf(t, want, column(c.query(t, table, more, item{":a": n(2)}), "sk"), "%s", more)
		}
		require.Equal(t, []string{"2", "3"}, column(c.query(t, table, " AND sk BETWEEN :a AND :b", item{":a": n(2), ":b": n(3)}), "sk"))
	}},
	{"queries: begins_with on the sort key", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:S")
		for _, k := range []string{"order#2", "order#1", "orders", "item#1"} {
			c.put(t, table, item{"pk": s("1"), "sk": s(k)})
		}
		require.Equal(t, []string{"order#1", "order#2"}, column(c.query(t, table, " AND begins_with(sk, :a)", item{":a": s("order#")}), "sk"))
	}},
	{"queries: pages of a limit join to the whole, both ways", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:N")
		var want []string
		for i := range 23 {
			c.put(t, table, item{"pk": s("1"), "sk": n(i)})
			want = append(want, strconv.Itoa(i))
		}
		for _, limit := range []int32{1, 7, 23, 24} {
			forward := c.query(t, table, "", nil, func(in *dynamodb.QueryInput) { in.Limit = aws.Int32(limit) })
			require.Equalf(t, want, column(forward, "sk"), "limit %d", limit)
		}
		backward := c.query(t, table, "", nil, func(in *dynamodb.QueryInput) { in.Limit, in.ScanIndexForward = aws.Int32(5), aws.Bool(false) })
		slices.Reverse(want)
		require.Equal(t, want, column(backward, "sk"))
	}},
	{"queries: a full last page has a key for the next one, a part of a page has none", onTables, func(t *trial, c clients) {
		table := c.numbered(t, "1", "2", "3", "4")
		for limit, more := range map[int32]bool{3: true, 4: true, 5: false} {
			out, err := c.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{TableName: &table, Limit: &limit,
				KeyConditionExpression: aws.String("pk = :pk"), ExpressionAttributeValues: item{":pk": s("1")}})
			require.NoError(t, err)
			require.Equalf(t, more, out.LastEvaluatedKey != nil, "limit %d", limit)
			if more {
				require.Equal(t, item{"pk": s("1"), "sk": n(limit)}, out.LastEvaluatedKey)
			}
		}
	}},
	{"queries: a page may start at a key that is gone", onTables, func(t *trial, c clients) {
		table := c.numbered(t, "1", "2", "4", "5")
		from3 := func(in *dynamodb.QueryInput) { in.ExclusiveStartKey = item{"pk": s("1"), "sk": n(3)} }
		require.Equal(t, []string{"4", "5"}, column(c.query(t, table, "", nil, from3), "sk"))
	}},
	{"queries: without a sort key there is nothing to go on with", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		c.put(t, table, item{"pk": s("1")})
		_, err := c.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{TableName: &table, KeyConditionExpression: aws.String("pk = :pk"),
			ExpressionAttributeValues: item{":pk": s("1")}, ExclusiveStartKey: item{"pk": s("1")}})
		requireCode(t, err, "ValidationException")
	}},
	{"queries: a filter comes after the limit, and counts both", onTables, func(t *trial, c clients) {
		table := c.numbered(t, "1", "2", "3", "4", "5")
		out, err := c.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{TableName: &table, Limit: aws.Int32(4), KeyConditionExpression: aws.String("pk = :pk"),
			FilterExpression: aws.String("even = :t"), ExpressionAttributeValues: item{":pk": s("1"), ":t": yes(true)}})
		require.NoError(t, err)
		require.Equal(t, []string{"1", "3"}, column(out.Items, "sk"))
		require.EqualValues(t, 2, out.Count)
		require.EqualValues(t, 4, out.ScannedCount)
		require.Equal(t, item{"pk": s("1"), "sk": n(4)}, out.LastEvaluatedKey)
	}},
	{"queries: COUNT returns numbers and no items", onTables, func(t *trial, c clients) {
		table := c.numbered(t, "1", "2", "3")
		out, err := c.DynamoDB.Query(t.Context(), &dynamodb.QueryInput{TableName: &table, Select: types.SelectCount,
			KeyConditionExpression: aws.String("pk = :pk"), ExpressionAttributeValues: item{":pk": s("1")}})
		require.NoError(t, err)
		require.Empty(t, out.Items)
		require.EqualValues(t, 3, out.Count)
		require.EqualValues(t, 3, out.ScannedCount)
	}},
	{"queries: a page ends at 1 MB", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:N")
		for i := range 6 {
			c.put(t, table, item{"pk": s("1"), "sk": n(i), "v": s(filler(300 << 10))})
		}
		in := &dynamodb.QueryInput{TableName: &table, KeyConditionExpression: aws.String("pk = :pk"), ExpressionAttributeValues: item{":pk": s("1")}}
		var sizes []int32
		pages := dynamodb.NewQueryPaginator(c.DynamoDB, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			require.NoError(t, err)
			sizes = append(sizes, page.Count)
		}
		require.Greater(t, len(sizes), 1, "six items of 300 KB came in one page")
		require.LessOrEqual(t, sizes[0], int32(4)) // the item that crosses the limit may come with the page
		require.Len(t, c.query(t, table, "", nil), 6)
	}},
	{"queries: what cannot be asked is refused", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S sk:N")
		for what, in := range map[string]*dynamodb.QueryInput{
			"no hash key":       {KeyConditionExpression: aws.String("sk = :v"), ExpressionAttributeValues: item{":v": n(1)}},
			"hash not =":        {KeyConditionExpression: aws.String("pk > :v"), ExpressionAttributeValues: item{":v": s("1")}},
			"OR":                {KeyConditionExpression: aws.String("pk = :v OR sk = :w"), ExpressionAttributeValues: item{":v": s("1"), ":w": n(1)}},
			"<>":                {KeyConditionExpression: aws.String("pk = :v AND sk <> :w"), ExpressionAttributeValues: item{":v": s("1"), ":w": n(1)}},
			"no key attribute":  {KeyConditionExpression: aws.String("pk = :v AND a = :w"), ExpressionAttributeValues: item{":v": s("1"), ":w": n(1)}},
			"wrong type":        {KeyConditionExpression: aws.String("pk = :v"), ExpressionAttributeValues: item{":v": n(1)}},
			"filter on the key": {KeyConditionExpression: aws.String("pk = :v"), FilterExpression: aws.String("sk > :w"), ExpressionAttributeValues: item{":v": s("1"), ":w": n(1)}},
			"no such index":     {KeyConditionExpression: aws.String("pk = :v"), IndexName: aws.String("nothing"), ExpressionAttributeValues: item{":v": s("1")}},
			"limit 0":           {KeyConditionExpression: aws.String("pk = :v"), Limit: aws.Int32(0), ExpressionAttributeValues: item{":v": s("1")}},
			"no condition":      {},
		} {
			in.TableName = &table
			_, err := c.DynamoDB.Query(t.Context(), in)
			refused(t, what, err, "ValidationException")
		}
	}},
	{"scans: pages of a limit give every item once", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for i := range 23 {
			c.put(t, table, item{"pk": s(strconv.Itoa(i))})
		}
		seen := map[string]int{}
		pages := dynamodb.NewScanPaginator(c.DynamoDB, &dynamodb.ScanInput{TableName: &table, Limit: aws.Int32(5)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Items), 5)
			for _, k := range column(page.Items, "pk") {
				seen[k]++
			}
		}
		require.Len(t, seen, 23)
		for k, times := range seen {
			require.Equalf(t, 1, times, "item %s", k)
		}
	}},
	{"scans: segments share the items out", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for i := range 40 {
			c.put(t, table, item{"pk": s(strconv.Itoa(i))})
		}
		seen := map[string]int{}
		for segment := range int32(4) {
			pages := dynamodb.NewScanPaginator(c.DynamoDB, &dynamodb.ScanInput{TableName: &table, Segment: &segment, TotalSegments: aws.Int32(4), Limit: aws.Int32(3)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(t.Context())
				require.NoError(t, err)
				for _, k := range column(page.Items, "pk") {
					seen[k]++
				}
			}
		}
		require.Len(t, seen, 40)
		for k, times := range seen {
			require.Equalf(t, 1, times, "item %s", k)
		}
		_, err := c.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table, Segment: aws.Int32(4), TotalSegments: aws.Int32(4)})
		requireCode(t, err, "ValidationException")
	}},
	{"scans: a filter and a projection", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S")
		for i := range 10 {
			c.put(t, table, item{"pk": s(fmt.Sprint(i)), "v": n(i), "w": n(i)})
		}
		out, err := c.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table, FilterExpression: aws.String("v >= :v"), ProjectionExpression: aws.String("v"),
			ExpressionAttributeValues: item{":v": n(7)}})
		require.NoError(t, err)
		require.ElementsMatch(t, []item{{"v": n(7)}, {"v": n(8)}, {"v": n(9)}}, out.Items)
		require.EqualValues(t, 10, out.ScannedCount)
	}},
}

var indexCases = []testCase{
	{"indexes: a sparse index holds only items with its keys, in order", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("byWhen", "status:S", "when:N"))
		for i, when := range []string{"10", "9", "-1", "100"} {
			c.put(t, table, item{"pk": s(fmt.Sprint(i)), "status": s("open"), "when": n(when), "more": s("x")})
		}
		c.put(t, table, item{"pk": s("no status"), "when": n(1)}, item{"pk": s("no when"), "status": s("open")}, item{"pk": s("other"), "status": s("closed"), "when": n(1)})
		got := c.byStatus(t, table, "byWhen", "open")
		require.Equal(t, []string{"-1", "9", "10", "100"}, column(got, "when"))
		require.Equal(t, item{"pk": s("2"), "status": s("open"), "when": n(-1)}, got[0], "KEYS_ONLY")
	}},
	{"indexes: projections", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("some", "status:S", "", "a"), index("all", "status:S", "", "*"))
		in := item{"pk": s("1"), "status": s("open"), "a": n(1), "b": n(2)}
		c.put(t, table, in)
		require.Equal(t, []item{{"pk": s("1"), "status": s("open"), "a": n(1)}}, c.byStatus(t, table, "some", "open"))
		require.Equal(t, []item{in}, c.byStatus(t, table, "all", "open"))
	}},
	{"indexes: an index follows updates and deletes", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("all", "status:S", "", "*"))
		c.put(t, table, item{"pk": s("1"), "status": s("open")}, item{"pk": s("2"), "status": s("open")})
		_, err := c.update(t, table, "SET #s = :v", item{":v": s("closed")}, func(in *dynamodb.UpdateItemInput) { in.ExpressionAttributeNames = map[string]string{"#s": "status"} })
		require.NoError(t, err)
		// Indexes are eventually consistent.
		t.eventually("the index still has the old status", func() bool { return slices.Equal(column(c.byStatus(t, table, "all", "open"), "pk"), []string{"2"}) })
		require.Equal(t, []string{"1"}, column(c.byStatus(t, table, "all", "closed"), "pk"))
		_, err = c.DynamoDB.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: &table, Key: item{"pk": s("2")}})
		require.NoError(t, err)
		t.eventually("the index still has the deleted item", func() bool { return len(c.byStatus(t, table, "all", "open")) == 0 })
	}},
	{"indexes: items with equal index keys all come, page by page", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("byWhen", "status:S", "when:N"))
		for i := range 12 {
			c.put(t, table, item{"pk": s(fmt.Sprint(i)), "status": s("open"), "when": n(i / 6)})
		}
		seen := map[string]bool{}
		in := &dynamodb.QueryInput{TableName: &table, IndexName: aws.String("byWhen"), Limit: aws.Int32(5), KeyConditionExpression: aws.String("#s = :v"),
			ExpressionAttributeNames: map[string]string{"#s": "status"}, ExpressionAttributeValues: item{":v": s("open")}}
		pages := dynamodb.NewQueryPaginator(c.DynamoDB, in)
		for count := 0; pages.HasMorePages(); count++ {
			page, err := pages.NextPage(t.Context())
			require.NoError(t, err)
			require.Less(t, count, 5, "too many pages")
			for _, k := range column(page.Items, "pk") {
				seen[k] = true
			}
			if page.LastEvaluatedKey != nil {
				require.Len(t, page.LastEvaluatedKey, 3, "the key of the index and of the table")
			}
		}
		require.Len(t, seen, 12)
	}},
	{"indexes: no consistent reads, and no more attributes than are projected", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("byWhen", "status:S", "when:N"))
		for what, change := range map[string]func(*dynamodb.QueryInput){
			"consistent read": func(in *dynamodb.QueryInput) { in.ConsistentRead = aws.Bool(true) },
			"all attributes":  func(in *dynamodb.QueryInput) { in.Select = types.SelectAllAttributes },
		} {
			in := &dynamodb.QueryInput{TableName: &table, IndexName: aws.String("byWhen"), KeyConditionExpression: aws.String("#s = :v"),
				ExpressionAttributeNames: map[string]string{"#s": "status"}, ExpressionAttributeValues: item{":v": s("open")}}
			change(in)
			_, err := c.DynamoDB.Query(t.Context(), in)
			refused(t, what, err, "ValidationException")
		}
	}},
	{"indexes: a key of the wrong type or an empty one is refused on writing", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("byWhen", "status:S", "when:N"))
		for what, in := range map[string]item{"hash": {"pk": s("1"), "status": n(1)}, "sort": {"pk": s("1"), "when": s("1")}, "empty": {"pk": s("1"), "status": s("")}} {
			_, err := c.DynamoDB.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: in})
			refused(t, what, err, "ValidationException")
		}
		require.Empty(t, c.all(t, table))
	}},
	{"indexes: a scan of an index", onTables, func(t *trial, c clients) {
		table := c.table(t, "pk:S", index("all", "status:S", "", "*"))
		c.put(t, table, item{"pk": s("1"), "status": s("open")}, item{"pk": s("2")}, item{"pk": s("3"), "status": s("closed")})
		t.eventually("the index has not the two items", func() bool {
			out, err := c.DynamoDB.Scan(t.Context(), &dynamodb.ScanInput{TableName: &table, IndexName: aws.String("all")})
			require.NoError(t, err)
			got := column(out.Items, "pk")
			slices.Sort(got)
			return slices.Equal(got, []string{"1", "3"})
		})
	}},
}

func (c clients) byStatus(t *trial, table, index, status string) []item {
	t.Helper()
	var out []item
	pages := dynamodb.NewQueryPaginator(c.DynamoDB, &dynamodb.QueryInput{TableName: &table, IndexName: &index, KeyConditionExpression: aws.String("#s = :v"),
		ExpressionAttributeNames: map[string]string{"#s": "status"}, ExpressionAttributeValues: item{":v": s(status)}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		out = append(out, page.Items...)
	}
	return out
}
