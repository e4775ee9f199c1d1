"""What stage 1 learns from: photos with masks."""
