"""Run the command line as `python -m hddm_sbi`."""

from hddm_sbi.cli import main

main()
