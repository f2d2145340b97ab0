package integration

// program is a server that nobody here wrote.
type program struct {
	from, licence string
	// pin is a file, and what stands in it before and after the version.
	pin      [3]string
	offers   []service
	deviates deviations
}

// foreign are the servers that the script "run" starts, by the name that it gives them.
var foreign = map[string]program{
	"ministack": {
		from: "PyPI", licence: "MIT", pin: [3]string{"servers/requirements.txt", "ministack==", "\n"},
		offers: allServices, deviates: ministackDeviates,
	},
	"dynoxide": {
		from: "crates.io (dynoxide-rs)", licence: "MIT or Apache-2.0", pin: [3]string{"run", "\ndynoxide=", "\n"},
		offers: []service{tables, transactions, timeToLive}, deviates: dynoxideDeviates,
	},
	"dynalite": {
		from: "npm", licence: "Apache-2.0", pin: [3]string{"servers/package.json", `"dynalite": "`, `"`},
		offers: []service{tables}, deviates: dynaliteDeviates,
	},
	"kinesis-local": {
		from: "npm", licence: "MIT", pin: [3]string{"servers/package.json", `"kinesis-local": "`, `"`},
		offers: []service{streams}, deviates: kinesisLocalDeviates,
	},
	"kinesalite": {
		from: "npm", licence: "MIT", pin: [3]string{"servers/package.json", `"kinesalite": "`, `"`},
		offers: []service{streams}, deviates: kinesaliteDeviates,
	},
}

const notRefused = "have success"

var ministackDeviates = deviations{
	"batches: a read of more than 16 MB leaves keys unprocessed":                        {"answers any size at once", "everything came at once"},
	"conditions: what cannot be read is refused, and changes nothing":                   {"takes a comparison of an operand with itself, and unknown functions for false", "same operand: want an error ValidationException, have success"},
	"hop: a write that changes nothing makes no record":                                 {"makes a MODIFY of it", `"INSERT", "MODIFY", "MODIFY"`},
	"hop: one item's records have one partition key, another item's another":            {"the partition key is random", "should have 1 item(s), but has 4"},
	"indexes: no consistent reads, and no more attributes than are projected":           {"takes ALL_ATTRIBUTES for what is projected", "all attributes: want an error ValidationException, have success"},
	"items: consumed capacity counts 4 KB read and 1 KB written, a weak read half":      {"a read costs 1 or 0.5, whatever its size", "Max difference between 2 and 1"},
	"items: equal numbers are the same key":                                             {"compares number keys as text", "actual  : map[string]types.AttributeValue(nil)"},
	"kinesis: 500 entries are taken, 501 and none are refused":                          {"takes an empty batch", "none: want an error"},
	"kinesis: a limit is 1 to 10,000":                                                   {"takes any limit", "limit 10001: want an error"},
	"kinesis: an explicit hash key of 2 to the 128th is refused":                        {"takes it", notRefused},
	"kinesis: sequence numbers have 56 digits and grow from put to put":                 {"they have 30 digits", "should have 56 item(s), but has 30"},
	"kinesis: what cannot be read is refused":                                           {"reads from anything; a bad iterator has expired", "bad iterator: want an error InvalidArgumentException, have ExpiredIteratorException"},
	"queries: what cannot be asked is refused":                                          {"takes OR and <> in a key condition, and filters on keys", "filter on the key: want an error ValidationException, have success"},
	"record: it says how large the images are":                                          {"SizeBytes is 0", `"0" is not greater than "1000"`},
	"record: the envelope is that of the Kinesis destination, not of DynamoDB Streams":  {"it is the one of DynamoDB Streams: no tableName, a SequenceNumber", `actual  : ""`},
	"record: times are milliseconds unless something else is set":                       {"they are seconds", "should have 13 item(s), but has 10"},
	"record: times are microseconds where that is set":                                  {"they are seconds", "should have 16 item(s), but has 10"},
	"shards: a closed parent stays readable, and ends":                                  {"resharding deletes the parent", "Shard shardId-000000000000 not found"},
	"shards: a closed shard can be neither split again nor merged":                      {"resharding deletes the parent", "Shard shardId-000000000000 not found"},
	"shards: a merge joins neighbours, and the child has two parents":                   {"resharding deletes the parents", "should have 3 item(s), but has 1"},
	"shards: a split closes the parent and shares its range out":                        {"resharding deletes the parent", `actual  : []string{"shardId-000000000001", "shardId-000000000002"}`},
	"shards: an iterator from before a split reads to the end":                          {"resharding deletes the parent", "Shard not found"},
	"shards: lists come in pages":                                                       {"needs the stream's name beside a NextToken", "Stream None not found"},
	"shards: records of a key keep their order over a split":                            {"resharding deletes the parent and its records", "Shard shardId-000000000000 not found"},
	"shards: the end of a parent names its children":                                    {"resharding deletes the parent", "Shard shardId-000000000000 not found"},
	"shards: what cannot be split or merged is refused":                                 {"merges shards that are no neighbours", "no neighbours: want an error InvalidArgumentException, have success"},
	"streams: bad names and counts are refused":                                         {"takes any name", "129 characters: want an error ValidationException, have"},
	"streams: the SDK's paginator lists all of them":                                    {"ListStreams has no NextToken", "the pages end early"},
	"streams: who names no number of shards gets four":                                  {"makes one", "should have 4 item(s), but has 1"},
	"streams: retention goes from 24 hours to a year, and back":                         {"has another error for what is beyond", "23 hours: want an error InvalidArgumentException, have ValidationException"},
	"queries: without a sort key there is nothing to go on with":                        {"starts after the one item", notRefused},
	"time to live: off, on, and not on twice":                                           {"switches it to what it is already", "on while on: want an error ValidationException, have success"},
	"transaction limits: an operation of two kinds, or of none, is refused":             {"takes the first kind", "two kinds: want an error ValidationException, have success"},
	"transaction limits: an update that cannot be computed cancels with its position":   {"adds to a text", notRefused},
	"transaction limits: keys that are missing, empty or of the wrong type are refused": {"stores an item without a key", "missing: want an error"},
	"updates: REMOVE counts elements as they were before":                               {"removes one after the other", "nails"},
	"updates: what cannot be done is refused, and changes nothing":                      {"checks neither operand types nor paths that overlap", "SET a = a + :v: want an error ValidationException, have success"},
	"writer: what DynamoDB refuses is refused by its name, and leaves nothing":          {"stores an item without a key in a transaction", "no key: want an error"},
}

var dynoxideDeviates = deviations{
	"conditions: what cannot be read is refused, and changes nothing":       {"evaluates some expressions that AWS refuses before", "same operand: want an error ValidationException, have ConditionalCheckFailedException"},
	"items: an ARN stands for the table's name":                             {"knows names only", "failed to satisfy constraint"},
	"queries: without a sort key there is nothing to go on with":            {"starts after the one item", notRefused},
	"time to live: off, on, and not on twice":                               {"switches it to what it is already", "on while on: want an error ValidationException, have success"},
	"transaction reads: answers by position, an empty one where nothing is": {"adds the key to a projection", "pk"},
}

var dynaliteDeviates = deviations{
	"conditions: the item that failed one comes back with ALL_OLD":           {"knows no ReturnValuesOnConditionCheckFailure", "actual  : map[string]types.AttributeValue(nil)"},
	"conditions: what cannot be read is refused, and changes nothing":        {"compares a BOOL with <", "operator's types: want an error ValidationException, have ConditionalCheckFailedException"},
	"indexes: a key of the wrong type or an empty one is refused on writing": {"takes an empty index key", "empty: want an error ValidationException, have success"},
	"items: a value nests 32 levels and no more":                             {"has no limit", notRefused},
	"items: an ARN stands for the table's name":                              {"knows names only", "failed to satisfy constraint"},
	"queries: without a sort key there is nothing to go on with":             {"starts after the one item", notRefused},
	"updates: REMOVE counts elements as they were before":                    {"removes one after the other", "nails"},
}

var kinesisLocalDeviates = deviations{
	"kinesis: 500 entries are taken, 501 and none are refused":     {"takes any number", "501: want an error"},
	"kinesis: what cannot be read is refused":                      {"a bad iterator is a failure of the server", "bad iterator: want an error InvalidArgumentException, have UnknownError"},
	"shards: what cannot be split or merged is refused":            {"splits off nothing", "at its beginning: want an error InvalidArgumentException, have success"},
	"shards: a closed shard can be neither split again nor merged": {"takes it for busy", "split again: want an error InvalidArgumentException, have ResourceInUseException"},
	"streams: a list may start after a name that is not there":     {"starts anew", "list2"},
	"streams: bad names and counts are refused":                    {"has other errors", "no shards: want an error ValidationException, have LimitExceededException"},
	"streams: the SDK's paginator lists all of them":               {"ListStreams has no NextToken", "the pages end early"},
}

var kinesaliteDeviates = deviations{
	"kinesis: an ARN stands for the stream's name":                 {"knows names only", "Value null at 'streamName'"},
	"kinesis: what is left to read shows in MillisBehindLatest":    {"it is always 0", `"0" is not positive`},
	"shards: AT_LATEST lists the open ones":                        {"knows no ShardFilter", `actual  : []string{"shardId-000000000000"`},
	"shards: a closed shard can be neither split again nor merged": {"splits it again", notRefused},
	"shards: a new count is reached":                               {"knows no UpdateShardCount", "UnknownOperationException"},
	"shards: lists come in pages":                                  {"gives all at once", `"5" is not less than or equal to "2"`},
	"shards: the end of a parent names its children":               {"knows no ChildShards", "should have 2 item(s), but has 0"},
	"streams: a new one is described as it was made":               {"knows no stream modes", "Expected value not to be nil"},
	"streams: who names no number of shards gets four":             {"asks for a number", "Value null at 'shardCount'"},
	"streams: descriptions come in pages":                          {"gives all at once", "should have 2 item(s), but has 3"},
	"streams: retention goes from 24 hours to a year, and back":    {"a week is its limit, as it once was Kinesis's", "less than or equal to 168"},
	"streams: the SDK's paginator lists all of them":               {"ListStreams has no NextToken", "the pages end early"},
}
