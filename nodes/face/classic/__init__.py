"""The engine without weights: cascades find faces, image processing finds their features, the photo is warped in."""
