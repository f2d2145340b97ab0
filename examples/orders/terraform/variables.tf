variable "name" {
  description = "What the names of all resources begin with."
  type        = string
  default     = "orders"
}

variable "dist" {
  description = "The directory with the functions' archives, which make build fills: dist/arm64 or dist/amd64."
  type        = string
}

variable "architecture" {
  description = "Of the functions: arm64, or x86_64 with the archives of dist/amd64."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Want arm64 or x86_64."
  }
}

variable "mail_from" {
  description = "The sender of confirmations, an address of an identity that SES has verified in this Region."
  type        = string
}

variable "mail_identity" {
  description = "The verified identity, if it is not the address itself: the domain of mail_from, say."
  type        = string
  default     = ""
}

variable "sandbox_recipient" {
  description = "While SES has the account in its sandbox, the verified identity that may be written to."
  type        = string
  default     = ""
}

variable "mail_rate" {
  description = "How many mails a second each process sends at most. SES allows 1 in its sandbox. Processes: shards times parallelization_factor, and one redrive."
  type        = number
  default     = 1
  validation {
    condition     = var.mail_rate > 0
    error_message = "Want more than 0."
  }
}

variable "alarm_topic" {
  description = "The ARN of an SNS topic that is told of alarms. Without one they only show in CloudWatch."
  type        = string
  default     = ""
}

variable "authorization" {
  description = "Who may place orders: AWS_IAM or NONE. With NONE, anybody in the world makes this account send mail."
  type        = string
  default     = "AWS_IAM"
}

variable "shards" {
  description = "With more than one, the events of one order can overtake each other. This service has one event for each order."
  type        = number
  default     = 1
}

variable "retention_days" {
  description = "How long the stream keeps records. Lambda gives a record up a day earlier, and after 7 days at the latest. Rows live for 30 days, inbox marks for 37."
  type        = number
  default     = 7
  validation {
    condition     = contains([2, 3, 7, 14, 21], var.retention_days)
    error_message = "Want 2, 3, 7, 14 or 21 days."
  }
}

variable "parallelization_factor" {
  description = "How many batches of a shard are handled at once."
  type        = number
  default     = 1
}

variable "only_inserts" {
  description = "With true, Lambda filters for INSERT. It saves invocations, and drops what is no JSON without a trace."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "With false, the tables can be deleted. Apply it first if they shall be."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}

variable "with_worker" {
  description = "With true, there are also the lease table and the policy of cmd/worker, for a container."
  type        = bool
  default     = false
}
