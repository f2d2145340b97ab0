// Package deployment reads what the CloudFormation template and the Terraform module of the order service would deploy, and compares it
// with what the code needs. It must not know the service: what the code needs is handed to it.
package deployment

// The account and Region for which names and ARNs are made up.
const (
	Account = "123456789012"
	Region  = "us-east-1"
)

// Deployment is what a template deploys. Names and ARNs are as the functions get to see them.
type Deployment struct {
	Tables    map[string]Table    // by name
	Streams   map[string]Stream   // by ARN
	Queues    map[string]Queue    // by ARN
	LogGroups map[string]int      // the days that they keep lines, by name
	Functions map[string]Function // by program: the directory in cmd
	Worker    []Grant             // the policy of cmd/worker; nil if it is not deployed
	Mappings  []Mapping
	API       string // the id of the HTTP API
	Routes    []Route
	Schedules []Schedule
	Repeats   map[string]Repeat // by function: what Lambda does with an invocation that fails or has to wait
	Callers   []Caller
	Alarms    []Alarm
}

// Table is a DynamoDB table.
type Table struct {
	ARN                 string
	Partition, Sort     string
	Attributes          map[string]string // name to type
	TTL                 string            // the attribute; empty if time to live is off
	Indexes             []string
	OnDemand            bool
	PointInTimeRecovery bool
	Encrypted           bool   // with a key of KMS
	Protected           bool   // from deletion
	Stream              string // the ARN of the Kinesis stream that gets its change records
	Precision           string // of their times
}

// Stream is a Kinesis stream.
type Stream struct {
	Name           string
	RetentionHours int
	Key            string // of KMS; empty if it is not encrypted
}

// Queue is an SQS queue.
type Queue struct {
	Name      string
	Encrypted bool
	Retention int // seconds
}

// Function is a Lambda function.
type Function struct {
	Name, ARN        string
	Runtime, Handler string
	Architecture     string
	Timeout          int
	LogGroup         string
	Environment      map[string]string
	Trusted          []string // who may take its role
	Granted          []Grant
}

// Mapping is an event source mapping.
type Mapping struct {
	ID               string
	Function, Stream string // the function's name, the stream's ARN
	StartingPosition string
	ResponseTypes    []string
	Bisect           bool
	MaxAttempts      int
	MaxAgeSeconds    int
	Parallelization  int
	OnFailure        string // an ARN
	Metrics          []string
	FilterPatterns   []string
}

// Route is a route of the HTTP API.
type Route struct {
	Key, Authorization string
	Function           string // the ARN of the function behind it
	Payload            string // the version of its payloads
	Stage              string
}

// Schedule is a rule that invokes a function, and nothing else.
type Schedule struct {
	Function   string // an ARN
	When       string // a rate or a cron expression
	MaxSeconds int    // for how long EventBridge tries; 0 is a day
}

// Repeat bounds how an invocation by a schedule is repeated.
type Repeat struct {
	Attempts   int // after the first
	MaxSeconds int // from the first invocation to the beginning of the last one; 0 is not bounded
}

// Caller is a service that may invoke a function.
type Caller struct {
	Function, Service, Source string
}

// Alarm is a CloudWatch alarm on a metric.
type Alarm struct {
	Metric     Metric
	Threshold  float64
	Period     int // seconds
	Periods    int // that have to be above the threshold
	Comparison string
	Missing    string // how missing data is treated
	Actions    []string
}

// Metric is one of CloudWatch, told by one of its dimensions.
type Metric struct {
	Namespace, Name, Dimension, Value, Statistic string
}

// Grant is an action that is allowed on a resource.
type Grant struct {
	Action, Resource string
}

// Program finds a function by its name.
func (d *Deployment) program(name string) string {
	for program, f := range d.Functions {
		if f.Name == name || f.ARN == name {
			return program
		}
	}
	return ""
}
