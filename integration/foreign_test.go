package integration

// program is a server that nobody here wrote.
type program struct {
	offers   []service
	deviates deviations
}

// foreign are the servers that run starts, by the name that it gives them.
var foreign = map[string]program{
	"ministack":     {offers: allServices, deviates: ministackDeviates},
	"dynoxide":      {offers: []service{tables, transactions, timeToLive}, deviates: dynoxideDeviates},
	"dynalite":      {offers: []service{tables}, deviates: dynaliteDeviates},
	"kinesis-local": {offers: []service{streams}, deviates: kinesisLocalDeviates},
	"kinesalite":    {offers: []service{streams}, deviates: kinesaliteDeviates},
}

var ministackDeviates = deviations{}
var dynoxideDeviates = deviations{}
var dynaliteDeviates = deviations{}
var kinesisLocalDeviates = deviations{}
var kinesaliteDeviates = deviations{}
