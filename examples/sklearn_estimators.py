"""scikit-learn's way: a pipeline with a network in it, its settings searched, its score cross-validated.

Needs scikit-learn: pip install "pargrad[sklearn]". The data are its handwritten digits, 8x8 pixels.
"""

from sklearn.datasets import load_digits
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples import command
from pargrad.sklearn import PargradClassifier


def main(num_workers: int = 0, epochs: int = 20, seed: int = 0) -> dict[str, float]:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)

    network = PargradClassifier(max_iter=epochs, learning_rate=1e-2, num_workers=num_workers, random_state=seed)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), network),
        {"pargradclassifier__hidden_layer_sizes": [(), (64,)], "pargradclassifier__weight_decay": [0.01, 1.0]},
        cv=3,
    ).fit(x_train, y_train)

    print(f"best of 4 settings: {search.best_params_}, cross-validated accuracy {search.best_score_:.2%}")
    print(classification_report(y_test, search.predict(x_test), digits=3))
    accuracy = search.score(x_test, y_test)
    print(f"test accuracy {accuracy:.2%}")
    return {"cross-validated accuracy": float(search.best_score_), "test accuracy": float(accuracy)}


if __name__ == "__main__":
    command(main)
