"""Quality figures of images, surfaces and volumes."""
