"""What users see of one task, node, schedule or event: values, and nothing else."""
