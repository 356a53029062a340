"""Objectives, training, evaluation and pictures, for any model and guide; it knows no concrete model.

- `objectives`: multi-sample variational bounds and their gradient estimators;
- `training`: the loop, schedules, logs, checkpoints;
- `supervised`: losses of labelled videos;
- `evaluation`: numbers on held-out data;
- `pictures`: what a person looks at.

Each room imports only those before it in the order training, objectives, supervised, evaluation, pictures.
May import `models.components`; takes models and guides as arguments.
"""
