# sandproof every night as a Nomad job, on a node of the deployment: where the
# orchestrator runs its log can be read from its files. The Docker driver must
# allow mounts (plugin "docker" { config { volumes { enabled = true } } }); docs/ci.md
# has the same task for raw_exec. The client must allow the task's kill_timeout
# (client { max_kill_timeout = "2m" }, or more): its default of 30 s cuts it, and
# what a stop leaves unended then lives on until its time to live is over.
#
# Before the first run:
#   nomad var put nomad/jobs/sandproof-nightly E2B_API_KEY=... \
#     [E2B_ADMIN_TOKEN=...] [NOMAD_TOKEN=...] [LOKI_BEARER_TOKEN=...]
#   nomad job run -var=api_url=http://localhost:3000 -var=sandbox_url=http://localhost:3002 \
#     -var=config="$(cat ginkgo.yml)" sandproof-nightly.nomad.hcl
#   nomad job periodic force sandproof-nightly   # now, instead of at night
#
# The task's exit code is the gate's: 0 every template is isolated; 1 one is not;
# 2 one is unproven; 3 trouble of the infrastructure or the harness. Nomad shows
# a code other than 0 as a failed allocation (nomad job status sandproof-nightly);
# nothing is tried again, since a second try would hide the first.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "node_pool" {
  description = "The pool of the nodes on which the orchestrator runs."
  type        = string
  default     = "default"
}

variable "crons" {
  type    = list(string)
  default = ["37 2 * * *"]
}

variable "time_zone" {
  type    = string
  default = "UTC"
}

variable "image" {
  description = "The image of Containerfile. A tag that moves needs force_pull in the task's config."
  type        = string
  default     = "sandproof:latest"
}

variable "user" {
  description = "Root, since only root can list Nomad's allocations; 65532 where everybody can, or where the log comes through Nomad's API or from Loki."
  type        = string
  default     = "0:0"
}

variable "logs_dir" {
  description = "Nomad's own allocations on this node, with the orchestrator's logs; read only."
  type        = string
  default     = "/opt/nomad/data/alloc"
}

variable "runs_dir" {
  description = "A directory of the node in which the runs are kept; it must be there, and the user must be able to write in it."
  type        = string
  default     = "/var/lib/sandproof/runs"
}

variable "api_url" {
  description = "With sandbox_url, or domain instead of both, the deployment; or live has it in config."
  type        = string
  default     = ""
}

variable "sandbox_url" {
  type    = string
  default = ""
}

variable "domain" {
  type    = string
  default = ""
}

variable "nomad_addr" {
  description = "Nomad's API, where config has live.nomad; default: that of this node, http://127.0.0.1:4646."
  type        = string
  default     = ""
}

variable "loki_addr" {
  description = "Where config has live.loki."
  type        = string
  default     = ""
}

variable "profile" {
  type    = string
  default = "core"
}

variable "config" {
  description = "The text of ginkgo.yml: the deployment's templates and log sources."
  type        = string
}

job "sandproof-nightly" {
  type        = "batch"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  periodic {
    crons            = var.crons
    time_zone        = var.time_zone
    prohibit_overlap = true
  }

  group "sandproof" {
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "judge" {
      driver       = "docker"
      user         = var.user
      kill_signal  = "SIGTERM"
      kill_timeout = "2m" # sandboxes are ended, then the gate speaks

      config {
        image = var.image
        # The API and the proxy of a node answer on its own addresses.
        network_mode = "host"

        mount {
          type     = "bind"
          source   = var.logs_dir
          target   = var.logs_dir
          readonly = true
        }

        mount {
          type   = "bind"
          source = var.runs_dir
          target = "/var/lib/sandproof/runs"
        }
      }

      # The key and the tokens live in Nomad's own variables, and in no job file.
      template {
        destination = "${NOMAD_SECRETS_DIR}/key.env"
        env         = true
        change_mode = "noop"
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs/sandproof-nightly" }}
          E2B_API_KEY={{ .E2B_API_KEY }}
          {{ with .E2B_ADMIN_TOKEN }}E2B_ADMIN_TOKEN={{ . }}{{ end }}
          {{ with .NOMAD_TOKEN }}NOMAD_TOKEN={{ . }}{{ end }}
          {{ with .LOKI_BEARER_TOKEN }}LOKI_BEARER_TOKEN={{ . }}{{ end }}
          {{ end }}
        EOT
      }

      template {
        destination     = "${NOMAD_TASK_DIR}/ginkgo.yml"
        change_mode     = "noop"
        left_delimiter  = "{{{{{"
        right_delimiter = "}}}}}"
        data            = var.config
      }

      env {
        E2B_API_URL     = var.api_url
        E2B_SANDBOX_URL = var.sandbox_url
        E2B_DOMAIN      = var.domain
        NOMAD_ADDR      = var.nomad_addr
        LOKI_ADDR       = var.loki_addr
        TARGET          = "live"
        GATE_TARGET     = "live"
        PROFILE         = var.profile
        CONFIG          = "${NOMAD_TASK_DIR}/ginkgo.yml"
        RUNS            = "/var/lib/sandproof/runs"
        RUN             = "nightly-${NOMAD_ALLOC_ID}"
      }

      resources {
        cpu    = 500
        memory = 512
      }

      logs {
        max_files     = 5
        max_file_size = 10
      }
    }
  }
}
