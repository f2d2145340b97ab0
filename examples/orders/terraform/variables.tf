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
  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+$", var.mail_from))
    error_message = "Want an address, like shop@example.com."
  }
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
  description = "How many mails a second each process sends at most. SES allows 1 in its sandbox, for all processes together; there are shards times parallelization_factor of them, one redrive, and one reconcile. At 1 a second a process sends 518400 mails in 6 days; what is older is given up."
  type        = number
  default     = 1
  validation {
    condition     = var.mail_rate >= 0.1 && var.mail_rate <= 100000
    error_message = "Want 0.1 to 100000."
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
  validation {
    condition     = contains(["AWS_IAM", "NONE"], var.authorization)
    error_message = "Want AWS_IAM or NONE."
  }
}

variable "shards" {
  description = "With more than one, the events of one order can overtake each other. This service has one event for each order."
  type        = number
  default     = 1
  validation {
    condition     = var.shards >= 1
    error_message = "Want 1 or more."
  }
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
  validation {
    condition     = var.parallelization_factor >= 1 && var.parallelization_factor <= 10
    error_message = "Want 1 to 10."
  }
}

variable "only_inserts" {
  description = "With true, Lambda filters for INSERT. It saves invocations, and drops what is no JSON without a trace."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "With false, the tables can be deleted. To delete them, apply false first."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365], var.log_retention_days)
    error_message = "Want 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180 or 365 days."
  }
}

variable "with_worker" {
  description = "With true, there are also the lease table and the policy of cmd/worker, for a container."
  type        = bool
  default     = false
}
