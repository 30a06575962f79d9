"""What is watched for harm, what is done against it, and the audit log that tells of both."""
