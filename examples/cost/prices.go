package main

// Prices in US dollars, us-east-1 (N. Virginia), Standard table class, on-demand, without free tiers, savings plans and taxes. They were
// looked up on 26 November 2026. The pages of AWS fill in their prices by script, so the source of each is said where it stands: "AWS" is
// a text of AWS itself, "list" a copy that others made of the AWS Price List in 2026, "secondary" what others say without saying when.
const (
	region = "us-east-1"
	asOf   = "26 November 2026"
)

// https://aws.amazon.com/dynamodb/pricing/on-demand/
const (
	writeUnit   = 0.625 / 1e6 // a write request unit; list
	readUnit    = 0.125 / 1e6 // a read request unit; list
	captureUnit = 0.10 / 1e6  // a change data capture unit for Kinesis; list, of us-east-2
	storedGB    = 0.25        // a GB-month; list, of us-east-2
)

// https://aws.amazon.com/kinesis/data-streams/pricing/
const (
	streamHour  = 0.04        // an on-demand stream (On-demand Standard); AWS
	ingestedGB  = 0.08        // on-demand; AWS
	retrievedGB = 0.04        // on-demand; secondary
	shardHour   = 0.015       // provisioned; secondary
	payloadUnit = 0.014 / 1e6 // provisioned, a PUT payload unit of 25 KB; secondary
)

// https://aws.amazon.com/lambda/pricing/
const (
	invocation = 0.20 / 1e6   // list
	gbSecond   = 0.0000133334 // Arm, the first tier; list
)

const (
	kb            = 1 << 10
	gb            = 1 << 30
	hoursPerMonth = 730
	secondsPerDay = 24 * 60 * 60
)
