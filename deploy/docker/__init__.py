"""The image and what docker-compose.yml mounts."""
